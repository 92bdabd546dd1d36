"""Each mistake names the file, the line or the key, the value, and what is allowed."""

from __future__ import annotations

import pytest

from drbdbackup.config.kinds import INSIDE
from drbdbackup.config.load import load
from drbdbackup.errors import ConfigError

TOP = {"node": '"www4"', "nodes": '["www4", "www5"]'}
TABLES = {
    "resource.raid": {"device": '"/dev/drbd0"', "source": '"/srv/raid"'},
    "target.nas": {"kind": '"nas"', "path": '"/backup"'},
    "target.disk": {"kind": '"disk"', "device": '"/dev/sdb1"', "mountpoint": '"/saving"'},
}


def written(changes: dict[str, str | None]) -> str:
    """A good file with single keys changed ("target.nas.path") or left out (None); a whole table too."""
    tables = {"": dict(TOP), **{name: dict(keys) for name, keys in TABLES.items()}}
    for dotted, value in changes.items():
        table, _, key = dotted.rpartition(".")
        if value is None and dotted in tables:
            del tables[dotted]
        elif value is None:
            del tables[table][key]
        else:
            tables.setdefault(table, {})[key] = value
    lines = []
    for name, keys in tables.items():
        lines += [f"[{name}]"] if name else []
        lines += [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


@pytest.fixture
def told(tmp_path):
    def told(text: str | bytes) -> list[str]:
        file = tmp_path / "config.toml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(ConfigError) as caught:
            load(str(file))
        return [line.removeprefix(f"{file}: ") for line in caught.value.message.splitlines()]

    return told


NAME = "letters, digits, '.', '_' and '-', a letter or digit first"
ROOM = 'from "1%" to "100%", or a size like "512M", "20G", "1T"'
ABSOLUTE = 'an absolute path without ".." and control characters'


@pytest.mark.parametrize(("changes", "expected"), [
    ({"target.nas.kind": '"tape"'}, 'target.nas.kind = "tape": must be "nas", "disk" or "restic"'),
    ({"target.nas.kind": None}, 'target.nas.kind is missing: must be "nas", "disk" or "restic"'),
    ({"target.nas.kind": '["nas"]'}, 'target.nas.kind = ["nas"]: must be "nas", "disk" or "restic"'),
    ({"target.nas.path": None}, f"target.nas.path is missing: must be {ABSOLUTE}"),
    ({"target.nas.path": '"backup"'}, f'target.nas.path = "backup": must be {ABSOLUTE}'),
    ({"target.nas.path": '"/a/../b"'}, f'target.nas.path = "/a/../b": must be {ABSOLUTE}'),
    ({"target.nas.path": '"/a\\u0000b"'}, f'target.nas.path = "/a\\u0000b": must be {ABSOLUTE}'),
    ({"resource.raid.snapshot": '"btrfs"'}, 'resource.raid.snapshot = "btrfs": must be "lvm"'),
    ({"resource.raid.snapshot": "true"}, 'resource.raid.snapshot = true: must be "lvm"'),
    ({"resource.raid.snapshot_size": '"20"'}, f'resource.raid.snapshot_size = "20": must be {ROOM}'),
    ({"resource.raid.snapshot_size": "0"}, f"resource.raid.snapshot_size = 0: must be {ROOM}"),
    ({"resource.raid.snapshot_size": '"110%"'}, f'resource.raid.snapshot_size = "110%": must be {ROOM}'),
    ({"resource.raid.snapshot_size": "4096"}, f"resource.raid.snapshot_size = 4096: must be {ROOM}"),
    ({"resource.raid.snapshot": '"lvm"', "role.source": '"file"', "role.path": '"/x"'},
     'resource.raid.snapshot = "lvm": belongs to role.source = "drbd" only'),
    ({"resource.raid.require_mount": "false"},
     "resource.raid.require_mount = false: belongs to a resource without device only"),
    ({"resource.raid.require_mount": '"no"'}, 'resource.raid.require_mount = "no": must be true or false'),
    ({"target.nas.pth": '"/x"'},
     ("target.nas.pth: unknown key; did you mean path?"
      " allowed here: kind, path, require_mount, recycle, schedule, retention, hook")),
    ({"target.nas.device": '"/dev/sdc"'}, 'target.nas.device: belongs to kind = "disk" only'),
    ({"target.disk.require_mount": "true"}, 'target.disk.require_mount: belongs to kind = "nas" only'),
    ({"target.nas.require_mount": "1"}, "target.nas.require_mount = 1: must be true or false"),
    ({"target.nas.retention": "{ minimum = 0 }"},
     "target.nas.retention.minimum = 0: must be a whole number, 1 or more"),
    ({"target.nas.retention": "7"}, "target.nas.retention = 7: must be a table"),
    ({"retention.daily": "true"}, "retention.daily = true: must be a whole number, 0 or more"),
    ({"retention.daily": "-1"}, "retention.daily = -1: must be a whole number, 0 or more"),
    ({"retention.daily": "1.5"}, "retention.daily = 1.5: must be a whole number, 0 or more"),
    ({"retention.dayly": "1"}, ("retention.dayly: unknown key; did you mean daily? "
     "allowed here: last, hourly, daily, weekly, monthly, yearly, minimum")),
    ({"limits.run": '"6 hours"'}, 'limits.run = "6 hours": must be seconds above 0, or like "90s", "15m", "6h", "1d"'),
    ({"limits.run": '"0s"'}, 'limits.run = "0s": must be seconds above 0, or like "90s", "15m", "6h", "1d"'),
    ({"limits.run": "inf"}, 'limits.run = inf: must be seconds above 0, or like "90s", "15m", "6h", "1d"'),
    ({"limits.run": "nan"}, 'limits.run = nan: must be seconds above 0, or like "90s", "15m", "6h", "1d"'),
    ({"limits.run": "true"}, 'limits.run = true: must be seconds above 0, or like "90s", "15m", "6h", "1d"'),
    ({"limits.shrink": "1"}, "limits.shrink = 1: must be a share from 0 to below 1, like 0.5"),
    ({"verify.share": '"0.5%"'}, 'verify.share = "0.5%": must be from "1%" to "100%", or 0 for never'),
    ({"drill.mariadb": '"/srv/raid/mysql"'},
     f'drill.mariadb = "/srv/raid/mysql": must be {INSIDE.allowed}'),
    ({"verify.ignore": '["@eaDir/x"]'},
     'verify.ignore = ["@eaDir/x"]: must be a list of names without "/", with * and ? like "._*"'),
    ({"verify.share": "5"}, 'verify.share = 5: must be from "1%" to "100%", or 0 for never'),
    ({"limits.shrink": "true"}, "limits.shrink = true: must be a share from 0 to below 1, like 0.5"),
    ({"resource.raid.services": '["mysql", "mysql"]'}, 'resource.raid.services: "mysql" is named twice'),
    ({"resource.raid.service": '{ shop = { start = ["a"], stop = ["b"] } }'},
     "resource.raid.service.shop: must be named in resource.raid.services"),
    ({"resource.raid.service": '{ shop = { start = ["a"] } }'},
     "resource.raid.service.shop.stop is missing: must be a list of a program and its arguments"),
    ({"target.disk.on_full": '"delete"'}, 'target.disk.on_full = "delete": must be "keep" or "replace"'),
    ({"target.nas.on_full": '"replace"'}, 'target.nas.on_full: belongs to kind = "disk" only'),
    ({"target.disk.on_full": '"replace"', "target.nas": None},
     'target.disk.on_full = "replace": must be "keep" where there is no other target to hold a copy meanwhile'),
    ({"target.nas.schedule": '"30 5 * * 0"', "target.disk": None},
     "target.nas.schedule: must be left out for at least one target, which follows the schedule at the top"),
    ({"resource.raid.hook.freeze": "{}"}, "resource.raid.hook.freeze: must have before, after or on_error"),
    ({"target.nas.hook.wake": '{ timeout = "5m" }'}, "target.nas.hook.wake: must have before, after or on_error"),
    ({"target.nas.hook": '["wake"]'},
     'target.nas.hook = ["wake"]: must be a table for each, like [target.nas.hook.wake]'),
    ({"resource.raid.hook.freeze": '{ before = "sync" }'},
     'resource.raid.hook.freeze.before = "sync": must be a list of a program and its arguments'),
    ({"resource.raid.hook.freeze": '{ befor = ["sync"] }'},
     ("resource.raid.hook.freeze.befor: unknown key; did you mean before? "
      "allowed here: before, after, on_error, timeout, required")),
    ({"resource.raid.database.shop": '{ kind = "oracle" }'},
     'resource.raid.database.shop.kind = "oracle": must be "mariadb"'),
    ({"resource.raid.database.shop": "{}"}, 'resource.raid.database.shop.kind is missing: must be "mariadb"'),
    ({"resource.raid.database.shop": '{ kind = "mariadb", databases = ["--all"] }'},
     'resource.raid.database.shop.databases = ["--all"]: must be a list of strings, none with "-" first'),
    ({"resource.raid.database.shop": '{ kind = "mariadb", method = "backup", databases = ["a"] }'},
     'resource.raid.database.shop.databases: belongs to method = "dump" only; a backup is always of all'),
    ({"resource.raid.source": None}, f"resource.raid.source is missing: must be {ABSOLUTE}"),
    ({"resource.raid.device": None},
     'resource.raid.device is missing: must be an absolute path where role.source = "drbd"'),
    ({"resource.raid.dual_primary": '"yes"'}, 'resource.raid.dual_primary = "yes": must be "refuse" or "first-node"'),
    ({"resource.raid.exclude": '"www"'}, 'resource.raid.exclude = "www": must be a list of strings'),
    ({"resource.raid.exclude": '["a\\u0000"]'}, 'resource.raid.exclude = ["a\\u0000"]: must be a list of strings'),
    ({"resource.raid.exclude": "[1]"}, "resource.raid.exclude = [1]: must be a list of strings"),
    ({"resource.raid": None},
     "resource is missing: must be a table for each, like [resource.raid]"),
    ({"resource.raid": None, "resource": "{}"},
     "resource = {}: must be a table for each, like [resource.raid]"),
    ({"target.nas": None, "target.disk": None}, "target is missing: must be a table for each, like [target.nas]"),
    ({"nodes": None}, f"nodes is missing: must be a list of at least one name, each of {NAME}"),
    ({"nodes": "[]"}, f"nodes = []: must be a list of at least one name, each of {NAME}"),
    ({"nodes": '["www4", "-x"]'}, f'nodes = ["www4", "-x"]: must be a list of at least one name, each of {NAME}'),
    ({"nodes": '["www4", "www5", "WWW5"]'}, ('nodes "WWW5": is like nodes "www5"; '
     "the names of nodes and targets must differ (small and capital letters are the same)")),
    ({"nodes": '["www4", "nas"]'}, ('target.nas: is like nodes "nas"; '
     "the names of nodes and targets must differ (small and capital letters are the same)")),
    ({"target.nas": None, "target.volume-raid": '{ kind = "nas", path = "/backup" }'},
     'target.volume-raid: the volume of resource "raid" goes by this name, so choose another'),
    ({"node": '"www6"'},
     'node = "www6" (the short host name where it is left out): must be one of nodes, "www4", "www5"'),
    ({"node": '""'}, f'node = "": must be {NAME}'),
    ({"schedul": '"x"'}, ("schedul: unknown key; did you mean schedule? allowed here: "
     "node, nodes, schedule, state_dir, role, resource, target, peer, retention, limits, verify, drill, check, "
     "metrics, report, notify")),
    ({"schedule": '"daily"'}, ('schedule = "daily": must be five fields as in a crontab '
     '(minute hour day month weekday), like "30 4 * * *"')),
    ({"schedule": '"30 4 * * * *"'}, ('schedule = "30 4 * * * *": must be five fields as in a crontab '
     '(minute hour day month weekday), like "30 4 * * *"')),
    ({"role.source": '"pacemaker"'}, 'role.source = "pacemaker": must be "drbd", "command" or "file"'),
    ({"role.source": '"command"'}, "role.command is missing: must be a list of a program and its arguments"),
    ({"role.source": '"command"', "role.command": "[]"},
     "role.command = []: must be a list of a program and its arguments"),
    ({"role.source": '"file"'}, f"role.path is missing: must be {ABSOLUTE}"),
    ({"role.path": '"/run/role"'}, 'role.path: belongs to source = "file" only'),
    ({"role": '"drbd"'}, 'role = "drbd": must be a table'),
    ({"peer.www6.ssh": '"root@c"'}, 'peer.www6: must be one of nodes, "www4", "www5"'),
    ({"peer.www5.options": "[]"},
     'peer.www5.ssh is missing: must be like "root@host" or an alias of ssh, no spaces, no "-" first'),
    ({"peer.www5.ssh": '"-oProxyCommand=reboot"'}, ('peer.www5.ssh = "-oProxyCommand=reboot": '
     'must be like "root@host" or an alias of ssh, no spaces, no "-" first')),
    ({"peer.www5.ssh": '"root@b reboot"'}, ('peer.www5.ssh = "root@b reboot": '
     'must be like "root@host" or an alias of ssh, no spaces, no "-" first')),
    ({"report.html": '"/x/y"'}, 'report.html = "/x/y": must be an absolute path that ends in ".html"'),
    ({"metrics.textfile": '"/x/y"'}, 'metrics.textfile = "/x/y": must be an absolute path that ends in ".prom"'),
    ({"notify.urls": '["geheim"]'}, 'notify.urls: must be a list of URLs, like "mailto://..."'),
    ({"notify.ping": '"ftp://geheim"'}, 'notify.ping: must be a URL that begins with "https://" or "http://"'),
    ({"notify": '"https://geheim"'}, "notify: must be a table"),
    ({"check.verified": "-1"}, 'check.verified = -1: must be like "45d" or "12h", or 0 for never'),
])
def test_a_wrong_key_is_told_with_what_is_allowed(told, changes, expected):
    assert told(written(changes)) == [expected]


@pytest.mark.parametrize(("changes", "one", "other"), [
    ({"target.nas.path": '"/srv/raid/copies"'}, "resource.raid.source", "target.nas.path"),
    ({"target.nas.path": '"/srv"'}, "resource.raid.source", "target.nas.path"),
    ({"target.nas.path": '"/"'}, "resource.raid.source", "target.nas.path"),
    ({"target.nas.path": '"/srv/raid"'}, "resource.raid.source", "target.nas.path"),
    ({"target.disk.mountpoint": '"/backup/disk"'}, "target.nas.path", "target.disk.mountpoint"),
    ({"target.disk.mountpoint": '"/backup"'}, "target.nas.path", "target.disk.mountpoint"),
    ({"state_dir": '"/backup/state"'}, "target.nas.path", "state_dir"),
    ({"state_dir": '"/srv/raid/state"'}, "resource.raid.source", "state_dir"),
    ({"target.nas.path": '"/var/lib/drbdbackup/nas"'}, "target.nas.path", "state_dir"),
    ({"target.disk.device": '"/srv/raid/disk.img"'}, "resource.raid.source", "target.disk.device"),
])
def test_places_must_not_lie_within_each_other(told, changes, one, other):
    lines = told(written(changes))
    assert any(line.startswith(other) and f"must not lie within {one} = " in line for line in lines), lines


@pytest.mark.parametrize("changes", [
    {"target.nas.path": '"/srv/raid-copies"'},
    {"target.nas.path": '"/srv/backup"'},
    {"target.disk.device": '"/var/lib/disk.img"'},
])
def test_places_beside_each_other_are_fine(tmp_path, changes):
    file = tmp_path / "config.toml"
    file.write_text(written(changes))
    assert load(str(file)).targets


def test_two_disks_cannot_share_a_device_or_a_mountpoint(told):
    second = {"target.b.kind": '"disk"', "target.b.device": '"/dev/sdb1"', "target.b.mountpoint": '"/mnt/b"'}
    assert told(written(second)) == [
        'target.b.device = "/dev/sdb1": must not be the device of target.disk.device']
    [line] = told(written({**second, "target.b.device": '"/dev/sdc1"', "target.b.mountpoint": '"/saving"'}))
    assert line.startswith('target.b.mountpoint = "/saving": must not lie within target.disk.mountpoint')


def test_a_disk_target_cannot_be_the_replicated_device(told):
    assert told(written({"target.disk.device": '"/dev/drbd0"'})) == [
        'target.disk.device = "/dev/drbd0": must not be the device of resource.raid.device']


def test_two_resources_cannot_be_one(told):
    assert told(written({"resource.b.device": '"/dev/drbd1"', "resource.b.source": '"/srv/raid"'})) == [
        'resource.b.source = "/srv/raid": must not be that of resource.raid']
    assert told(written({"resource.RAID.device": '"/dev/drbd1"', "resource.RAID.source": '"/srv/b"'})) == [
        ("resource.RAID: is like resource.raid; the names of resources must differ "
        "(small and capital letters are the same)")]


def test_a_resource_cannot_have_the_name_of_our_own_folder(told):
    changes = {"resource.catalog.device": '"/dev/drbd1"', "resource.catalog.source": '"/srv/b"'}
    assert told(written(changes)) == ['resource.catalog: the name must not be one of "catalog", "target.json"']


def test_a_name_that_could_be_a_path_is_refused(told):
    for name in ("../etc", "", "a b", ".hidden", "-x", "a/b"):
        [line] = told(written({f'resource."{name}".device': '"/dev/drbd1"', f'resource."{name}".source': '"/srv/b"'}))
        assert line == f'resource."{name}": the name must be {NAME}'.replace('."-x"', ".-x")


def test_all_mistakes_are_told_at_once(told):
    changes = {"target.nas.kind": '"tape"', "schedule": "5", "retention.minimum": "0", "limits.rum": "3"}
    assert len(told(written(changes))) == 4


def test_a_syntax_error_names_its_line(told):
    [line] = told(written({}) + "\nnodes = [\n")
    assert "not TOML: " in line
    assert "end of document" in line
    [line] = told("nodes = 1\n\nstate_dir == 2\n")
    assert "line 3" in line


def test_a_key_given_twice_is_a_syntax_error(told):
    [line] = told('node = "www4"\n' + written({}))
    assert "line 2" in line


def test_a_file_in_another_encoding_names_the_line(told):
    assert told('nodes = ["a"]\n# Gr\u00fc\u00dfe\n'.encode("latin-1")) == ["line 2: not UTF-8"]


def test_a_byte_order_mark_is_no_mistake(told):
    assert told(b"\xef\xbb\xbf" + written({"node": '"www6"'}).encode()) == told(written({"node": '"www6"'})) != []


def test_a_number_no_computer_wants_is_no_traceback(told):
    assert "not TOML" in told("retention = " + "9" * 5000)[0]
    assert told(written({"retention.daily": "0x" + "f" * 200 + " \n minimum = 0"}))


def test_a_long_value_is_shortened(told):
    [line] = told(written({"target.nas.path": '"' + "x" * 500 + '"'}))
    assert len(line) < 200
