"""Mistakes in a pair.toml: each is told with file, key, value and what is allowed, and nothing hostile gets further."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

from drbdbackup.config.kinds import quoted
from drbdbackup.errors import ConfigError, ConfigUnreadable
from drbdbackup.pair.load import load
from drbdbackup.pair.values import NFS_OPTIONS, Disk, Heartbeat, Node, Pacemaker, Pair

SAMPLE = resources.files("drbdbackup").joinpath("pair", "sample.toml").read_text()
HOSTILE = (
    "two words", "line\nbreak", 'quo"te', "quo'te", "semi;colon", "hash#", "back\\slash", "$HOME", "`id`", "{brace}",
    "a::b", "*", "é", "", "{{ 1 }}", "%", "tab\there", "nul\0", "-o", "../up", " ",
)  # fmt: skip
OPTIONS = '[backup.nas]\noptions = "{}"'
TEXTS = (
    'secret = "{}"', '[public]\ninterface = "{}"', '[public]\nnetwork = "{}"', '[public]\nvirtual_ip = "{}"',
    '[private]\ninterface = "{}"', '[private]\nnetwork = "{}"', '[volume]\nresource = "{}"', '[volume]\ndevice = "{}"',
    '[volume]\ndisk = "{}"', '[volume]\nmount_point = "{}"', '[volume]\nfilesystem = "{}"', '[volume]\nrate = "{}"',
    '[node.www4]\npublic = "{}"', '[node.www4]\nprivate = "{}"', '[node.www4]\ndisk = "{}"', '["node"."{}"]\n',
    '[service.mail]\nfolders = ["{}"]', '[service.mail]\ninit = "{}"', '[service.mail]\nunits = ["{}"]',
    '[service."{}"]\ninit = "mail"', '[backup]\nschedule = "{}"', '[backup.nas]\nsource = "{}"',
    '[backup.nas]\npath = "{}"', '[backup.nas]\ntype = "{}"', OPTIONS,
    '[backup.disk]\ndevice = "{}"', '[backup.disk]\nmountpoint = "{}"',
)  # fmt: skip


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    tables = [key for key in other if isinstance(other[key], dict) and isinstance(one.get(key), dict)]
    return {**one, **other, **{key: merged(one[key], other[key]) for key in tables}}


def as_toml(table: dict[str, Any], at: str = "") -> str:
    plain = [f"{quoted(key)} = {written(value)}" for key, value in table.items() if not isinstance(value, dict)]
    below = [
        as_toml(value, f"{at}.{quoted(key)}".lstrip(".")) for key, value in table.items() if isinstance(value, dict)
    ]
    return "\n".join([*([f"[{at}]"] if at else []), *plain, *below])


def written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return quoted(value) if isinstance(value, str) else str(value)


def with_change(folder: Path, change: str) -> Path:
    """The sample with what `change` says in place of what it has there."""
    file = folder / "pair.toml"
    file.write_text(as_toml(merged(tomllib.loads(SAMPLE), tomllib.loads(change))))
    file.chmod(0o600)
    return file


def told(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(str(file))
    assert caught.value.status == 2
    assert caught.value.hint
    lines = caught.value.message.split("\n")
    assert all(line.startswith(f"{file}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{file}: ") for line in lines)


def test_the_sample_is_the_pair_of_the_howto(tmp_path: Path) -> None:
    pair = load(str(with_change(tmp_path, "")))
    assert [node.name for node in pair.nodes] == ["www4", "www5"]
    assert [str(node.private) for node in pair.nodes] == ["192.168.12.2", "192.168.12.3"]
    assert str(pair.public.virtual_ip) == "133.10.10.10"
    assert [service.init for service in pair.services] == ["mariadb", "", "apache2"]
    assert pair.services[0].folders == ("/etc/mysql", "/var/lib/mysql")
    assert (pair.volume.device, pair.volume.mount_point) == ("/dev/drbd0", "/srv/raid")
    assert pair.nas
    assert pair.nas.options == NFS_OPTIONS
    assert pair.disk == Disk("/dev/sdb1", "/saving")


def test_what_the_sample_shows_behind_a_hash_can_be_said_and_is_the_default(tmp_path: Path) -> None:
    with_heartbeat = re.sub(r"^# \[pacemaker\]\n(?:# .+\n)+", "", SAMPLE, flags=re.MULTILINE)
    shown = re.sub(r'^# (?=\[|[a-z]+ = (?!"\.\.\."))', "", with_heartbeat, flags=re.MULTILINE)
    (tmp_path / "pair.toml").write_text(shown)
    pair = load(str(tmp_path / "pair.toml"))
    plain = load(str(with_change(tmp_path, "")))
    assert pair.heartbeat == plain.heartbeat == Heartbeat()
    assert (pair.schedule, pair.disk, pair.private.port) == (plain.schedule, plain.disk, plain.private.port)
    assert pair.services[-1].name == "mail"
    assert pair.volume.rate == "40M"


def test_every_default_that_the_sample_shows_is_the_real_one() -> None:
    shown = dict(re.findall(r"^# ([a-z_]+) = (\S+)", SAMPLE, re.MULTILINE))
    real = {
        **{field.name: field.default for field in fields(Heartbeat) if field.name != "port"},
        "resource": "raid", "device": "/dev/drbd0", "mount_point": "/srv/raid", "filesystem": "ext4", "path": "/backup",
        "mountpoint": "/saving", "type": "nfs", "token": Pacemaker().token,
    }  # fmt: skip
    assert {key: shown[key] for key in real} == {key: written(value) for key, value in real.items()}
    assert [field.default in SAMPLE for field in fields(Pair) if field.name == "schedule"] == [True]


def test_a_node_may_have_its_disk_under_another_name(tmp_path: Path) -> None:
    pair = load(str(with_change(tmp_path, '[node.www5]\ndisk = "/dev/nvme0n1p3"')))
    assert [node.disk for node in pair.nodes] == ["/dev/sda3", "/dev/nvme0n1p3"]
    assert isinstance(pair.nodes[0], Node)


@pytest.mark.parametrize("place", TEXTS)
def test_nothing_that_means_something_to_a_file_gets_into_one(tmp_path: Path, place: str) -> None:
    for hostile in HOSTILE:
        if (place, hostile) != (OPTIONS, "a::b"):  # Heartbeat's own, and no options come to it
            assert "must be" in told(with_change(tmp_path, place.replace("{}", quoted(hostile)[1:-1]))), hostile


@pytest.mark.parametrize(("change", "mistake"), [
    ('[public]\nvirtual_ip = "10.0.0.1"',
     'public.virtual_ip = "10.0.0.1": must be the address of a host in public.network = "133.10.10.0/24"'),
    ('[public]\nvirtual_ip = "133.10.10.255"', 'public.virtual_ip = "133.10.10.255": must be the address of a host'),
    ('[public]\nvirtual_ip = "133.10.10.5"', 'public.virtual_ip = "133.10.10.5": must not be that of node.www4.public'),
    ('[public]\nvirtual_ip = "133.10.10.20"',
     'backup.nas.source = "133.10.10.20:/export/backup": must not be at public.virtual_ip'),
    ('[backup.nas]\nsource = "192.168.12.3:/export"', "must not be at node.www5.private"),
    ('[public]\nvirtual_ip = "133.10.10.300"', 'public.virtual_ip = "133.10.10.300": must be an IPv4 address'),
    ('[public]\nvirtual_ip = "::1"', 'public.virtual_ip = "::1": must be an IPv4 address'),
    ('[public]\nnetwork = "133.10.10.5/24"', "must be an IPv4 network without host bits"),
    ('[node.www5]\npublic = "133.10.10.5"', 'node.www5.public = "133.10.10.5": must not be that of node.www4.public'),
    ('[node.www5]\nprivate = "192.168.13.3"', "must be the address of a host in private.network"),
    ('[node.www6]\npublic = "133.10.10.7"\nprivate = "192.168.12.4"',
     "node: there are 3 (www4, www5, www6): must be exactly two"),
    ('[node.www5]\nnonsense = 1', "node.www5.nonsense: unknown key; allowed here: public, private, disk"),
    ('[private]\nnetwork = "133.10.0.0/16"', "must not overlap with public.network"),
    ('[private]\ninterface = "eth0"', 'private.interface = "eth0": must not be that of public'),
    ('[private]\nport = 22', "private.port = 22: must be a whole number from 1024 to 65535"),
    ('[volume]\nresource = "all"', 'volume.resource = "all": must not be one of "all", "catalog"'),
    ('[volume]\ndevice = "/dev/sda1"', 'volume.device = "/dev/sda1": must be one of DRBD'),
    ('[volume]\ndisk = "/dev/drbd1"', 'volume.disk = "/dev/drbd1": must be a device'),
    ('[volume]\ndisk = "/dev/sdb1"', 'backup.disk.device = "/dev/sdb1": is the disk below DRBD on www4'),
    ('[volume]\ndisk = "/dev/sdb"', "is the disk below DRBD on www4"),
    ('[node.www5]\ndisk = "/dev/sdb1"', "is the disk below DRBD on www5"),
    ('[volume]\nmount_point = "/var"', "must not lie within"),
    ('[volume]\nmount_point = "/srv/../raid"', "without \"..\""),
    ('[volume]\nmount_point = "/srv//raid"', "must be an absolute path"),
    ('[backup.nas]\npath = "/srv/raid/backup"', 'must not lie within volume.mount_point = "/srv/raid"'),
    ('[heartbeat]\ndeadtime = 3', "heartbeat.deadtime = 3: must be more than heartbeat.warntime = 5"),
    ('[heartbeat]\ninitdead = 15', "heartbeat.initdead = 15: must be at least twice heartbeat.deadtime = 10"),
    ('[backup]\nschedule = "0 0 30 2 *"', 'backup.schedule = "0 0 30 2 *"'),
    ('[backup]\nschedule = "*/5 * * * *"', "the minute a plain number"),
    ('[backup.nas]\ntype = "cifs"', 'backup.nas.options is missing: must be given where backup.nas.type is "cifs"'),
    ('[backup.nas]\nsource = "//nas/backup"', 'backup.nas.source = "//nas/backup": must be like'),
    ('[service.nonsense]', "service.nonsense: is not known here; must have folders, or init, or both"),
    ('[service.mail]\nfolders = ["/etc"]', '"/etc" belongs to the node and cannot lie on the volume'),
    ('[service.mail]\nfolders = ["/etc/drbd.d"]', "belongs to the node"),
    ('[service.mail]\nfolders = ["/var/lib"]', "belongs to the node"),
    ('[service.mail]\nfolders = ["/usr/share/mail"]', "belongs to the node"),
    ('[service.mail]\nfolders = ["/var/www/mail"]', "must not lie within service.apache"),
    ('[service.mail]\nfolders = ["/var/mysql"]', '"/var/mysql" and "/var/lib/mysql" would be mysql on the volume'),
    ('[service.mail]\ninit = "apache2"', 'service.mail.init = "apache2": must not be that of service.apache.init'),
    ('[service.mail]\ninit = "Filesystem"', "must not be that of the pair's own"),
    ('[service.mail]\ninit = "10.0.0.1"', "a letter first"),
    ("secret = 'short'", "secret: must be 16 to 64 letters"),
])  # fmt: skip
def test_what_cannot_be_is_told_with_what_can(tmp_path: Path, change: str, mistake: str) -> None:
    assert mistake in told(with_change(tmp_path, change))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = with_change(tmp_path, '[private]\ninterface = "eth0"\n[volume]\nresource = "all"')
    assert len(told(file).split("\n")) == 2


@pytest.mark.parametrize("name", ["nas", "disk", "WWW6", "www6.example.org", "6", "localhost"])
def test_a_node_has_the_name_of_a_host_and_not_that_of_a_target(tmp_path: Path, name: str) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(SAMPLE.replace("[node.www5]", f'[node."{name}"]'))
    assert "the name must " in told(file)


def test_one_node_is_no_pair(tmp_path: Path) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(re.sub(r"\[node\.www5\]\n.*\n.*\n", "", SAMPLE))
    assert told(file).startswith("node: has only www4: must be at least 2, a table for each")


def test_a_pair_without_any_place_for_backups_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pair.toml"
    file.write_text(re.sub(r"^\[backup\.nas\].*", "", SAMPLE, flags=re.MULTILINE | re.DOTALL))
    assert told(file).startswith("backup: must hold a place for the backups, [backup.nas] or [backup.disk] or both")


def test_a_secret_that_others_can_read_is_none(tmp_path: Path) -> None:
    file = with_change(tmp_path, 'secret = "0123456789abcdef"')
    assert load(str(file)).secret == "0123456789abcdef"
    file.chmod(0o644)
    assert told(file) == f"secret: others than its owner can read this file: chmod 600 {file}"


def test_a_mistake_never_tells_the_secret(tmp_path: Path) -> None:
    assert "0123456789" not in told(with_change(tmp_path, 'secret = "0123456789abcdefghij#"'))


def test_a_line_that_is_no_toml_is_told_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "pair.toml"
    file.write_text("[node.www4]\npublic = 133.10\n.10\n")
    assert "line" in told(file)


def test_a_file_that_is_not_there_is_told_with_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnreadable) as caught:
        load(str(tmp_path / "pair.toml"))
    assert "drbdbackup pair init" in caught.value.hint
