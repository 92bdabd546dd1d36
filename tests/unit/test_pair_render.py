"""What a pair is rendered to: the files as DRBD, Heartbeat, cron, the shell and drbdbackup itself want them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests import preloaded

ROOT = Path(__file__).parents[2]
SECRET = "0123456789abcdef0123"
PLACES = {
    "etc/drbd.d/raid.res": 0o600, "etc/ha.d/authkeys": 0o600, "etc/ha.d/ha.cf": 0o644, "etc/ha.d/haresources": 0o644,
    "etc/ha.d/resource.d/drbdbackup": 0o755, "etc/hosts.pair": 0o644, "etc/fstab.pair": 0o644,
    "etc/drbdbackup/config.toml": 0o644, "etc/drbdbackup/pair.toml": 0o644, "etc/drbdbackup/not-at-boot": 0o644,
    "etc/cron.d/drbdbackup": 0o644, "usr/local/sbin/pair-prepare": 0o755, "usr/local/sbin/pair-move-services": 0o755,
    "usr/local/sbin/pair-link-services": 0o755,
}  # fmt: skip


def drbdbackup(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return preloaded.run(
        [*preloaded.ENTRY, *args], cwd=folder, capture_output=True, text=True, timeout=60, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def does(folder: Path, *args: str) -> str:
    ended = drbdbackup(folder, *args)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def refuses(folder: Path, *args: str, status: int = 2) -> str:
    ended = drbdbackup(folder, *args)
    assert (ended.returncode, ended.stdout) == (status, ""), ended.stdout
    return ended.stderr


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The node's folder of a sample that was rendered."""
    folder = tmp_path_factory.mktemp("sample")
    does(folder, "pair", "init")
    does(folder, "pair", "render", "--out", "out")
    return folder / "out/www4"


def changed(folder: Path, *changes: tuple[str, str]) -> Path:
    """The node's folder of a changed sample."""
    if not (folder / "pair.toml").exists():
        does(folder, "pair", "init")
    text = (folder / "pair.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "pair.toml").write_text(text)
    does(folder, "pair", "render", "--out", "out")
    return folder / "out/www4"


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()
    }


def test_every_file_is_there_with_its_mode_and_the_same_on_both_nodes(sample: Path) -> None:
    assert files(sample) == PLACES
    assert files(sample.with_name("www5")) == PLACES
    assert all((sample / name).read_bytes() == (sample.with_name("www5") / name).read_bytes() for name in PLACES)


def test_only_the_owner_can_look_and_the_folders_below_are_as_on_a_node(sample: Path) -> None:
    assert stat.S_IMODE(sample.parent.stat().st_mode) == 0o700
    below = [path for path in sample.parent.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in below} == {0o755}


def test_every_file_is_plain_text(sample: Path) -> None:
    for name in PLACES:
        text = (sample / name).read_bytes()
        assert text.endswith(b"\n") or not text
        assert not text.endswith(b"\n\n")
        assert text.isascii()
        assert b"\r" not in text
        assert b"{{" not in text.replace(b"${{", b"")


def test_drbd_gets_the_resource_with_both_nodes_and_its_disks(sample: Path) -> None:
    text = (sample / "etc/drbd.d/raid.res").read_text()
    assert text.count("{") == text.count("}")
    assert all(re.search(r"([;{}]|^\s*#.*|^)$", line) for line in text.splitlines())
    assert re.findall(r"on (\S+) \{", text) == ["www4", "www5"]
    assert re.findall(r"address (\S+);", text) == ["192.168.12.2:7788", "192.168.12.3:7788"]
    assert re.findall(r"^\s+(?:disk|device) (/\S+);", text, re.MULTILINE) == ["/dev/drbd0", "/dev/sda3"] * 2
    assert "c-plan-ahead" not in text


def test_a_fixed_rate_of_the_resync_turns_the_search_for_one_off(tmp_path: Path) -> None:
    text = (changed(tmp_path, ("# rate = ", "rate = ")) / "etc/drbd.d/raid.res").read_text()
    assert re.search(r"disk \{\n[^}]*c-plan-ahead 0;\n\s*resync-rate 40M;\n", text)


def test_heartbeat_hears_both_nodes_on_both_links_and_takes_nothing_back(sample: Path) -> None:
    told = lines(sample / "etc/ha.d/ha.cf")
    assert told[-2:] == ["node www4", "node www5"]
    assert "auto_failback off" in told
    ports = [at for at, line in enumerate(told) if line.startswith("udpport")]
    casts = [at for at, line in enumerate(told) if line.startswith("ucast")]
    assert len(casts) == 4
    assert ports[0] < casts[0]  # ha.cf(5): set before the media


def test_the_primary_has_all_in_the_order_in_which_one_needs_the_other(sample: Path) -> None:
    [line] = lines(sample / "etc/ha.d/haresources")
    assert line.split() == [
        "www4", "IPaddr::133.10.10.10/24/eth0", "drbddisk::raid", "Filesystem::/dev/drbd0::/srv/raid::ext4",
        "mariadb", "apache2", "drbdbackup",
    ]  # fmt: skip


def test_the_backup_lets_go_of_the_volume_before_it_is_unmounted(sample: Path) -> None:
    assert (sample / "etc/ha.d/resource.d/drbdbackup").read_bytes() == (
        ROOT / "drbdbackup/share/resource-agent"
    ).read_bytes()


def test_the_secrets_of_heartbeat_and_drbd_are_two(tmp_path: Path) -> None:
    node = changed(tmp_path, ('# secret = "..."', f'secret = "{SECRET}"'))
    assert (node / "etc/ha.d/authkeys").read_text() == f"auth 1\n1 sha1 {SECRET}\n"
    [drbd] = re.findall(r'shared-secret "([0-9a-f]+)";', (node / "etc/drbd.d/raid.res").read_text())
    assert len(drbd) == 40
    assert SECRET not in drbd


def test_no_other_file_holds_a_secret(tmp_path: Path) -> None:
    node = changed(tmp_path, ('# secret = "..."', f'secret = "{SECRET}"'))
    [drbd] = re.findall(r'shared-secret "([0-9a-f]+)";', (node / "etc/drbd.d/raid.res").read_text())
    holding = {name for name in PLACES if {SECRET, drbd} & set(re.findall(r"[0-9a-f]{20,}", (node / name).read_text()))}
    assert holding == {"etc/drbd.d/raid.res", "etc/ha.d/authkeys"}
    assert all(PLACES[name] == 0o600 for name in holding)


def test_drbdbackup_takes_its_configuration_on_both_nodes(sample: Path, tmp_path: Path) -> None:
    text = (sample / "etc/drbdbackup/config.toml").read_text()
    for node, peer in (("www4", "192.168.12.3"), ("www5", "192.168.12.2")):
        (tmp_path / "config.toml").write_text(f'node = "{node}"\n{text}')
        document = json.loads(does(tmp_path, "config", "show", "--json", "--config", "config.toml"))["config"]
        assert [one["ssh"] for one in document["peer"].values()] == [f"root@{peer}"]
        assert document["target"]["disk"]["device"] == "/dev/sdb1"
        assert document["resource"]["raid"]["source"] == "/srv/raid"
        assert document["resource"]["raid"]["services"] == ["mariadb", "apache2"]
        does(tmp_path, "config", "validate", "--config", "config.toml")


def test_what_lies_on_a_node_tells_the_same_pair(sample: Path, tmp_path: Path) -> None:
    """It is a pair.toml itself, and rendered again it gives the same files."""
    (tmp_path / "pair.toml").write_bytes((sample / "etc/drbdbackup/pair.toml").read_bytes())
    again = changed(tmp_path)
    same = {name for name in PLACES if (again / name).read_bytes() == (sample / name).read_bytes()}
    assert set(PLACES) - same == {"etc/drbd.d/raid.res", "etc/ha.d/authkeys"}


def test_a_boot_waits_for_no_nas_and_a_dead_nas_is_an_error_in_the_end(sample: Path) -> None:
    [line] = lines(sample / "etc/fstab.pair")
    source, path, kind, options, dump, check = line.split()
    assert (source, path, kind, dump, check) == ("133.10.10.20:/export/backup", "/backup", "nfs", "0", "0")
    assert {"_netdev", "nofail", "bg", "soft", "timeo=300", "retrans=2"} <= set(options.split(","))


def test_a_pair_without_a_nas_and_one_without_disks_are_rendered(tmp_path: Path) -> None:
    for name, missing in (("fstab", "nas"), ("disk", "disk")):
        folder = tmp_path / name
        folder.mkdir()
        does(folder, "pair", "init")
        text = (folder / "pair.toml").read_text()
        (folder / "pair.toml").write_text(re.sub(rf"^\[backup\.{missing}\]\n(?:.+\n)+", "", text, flags=re.MULTILINE))
        node = changed(folder)
        config = tomllib.loads((node / "etc/drbdbackup/config.toml").read_text())
        assert set(config["target"]) == {"nas", "disk"} - {missing}
        assert ("peer" in config) == (missing != "disk")
        assert (lines(node / "etc/fstab.pair") == []) == (missing == "nas")


def test_cron_gets_the_file_that_is_told_and_another_schedule_only_changes_its_times(
    sample: Path, tmp_path: Path
) -> None:
    plain = (ROOT / "cron/drbdbackup").read_text()
    assert (sample / "etc/cron.d/drbdbackup").read_text() == plain
    node = changed(tmp_path, ('# schedule = "30 4 * * *"', 'schedule = "7 2 * * mon-fri"'))
    text = (node / "etc/cron.d/drbdbackup").read_text()
    assert text == plain.replace("30 4 * * * root", "7 2 * * mon-fri root").replace("7,22,37,52 *", "14,29,44,59 *")
    assert tomllib.loads((node / "etc/drbdbackup/config.toml").read_text())["schedule"] == "7 2 * * mon-fri"


def test_what_heartbeat_starts_must_not_start_at_boot(tmp_path: Path) -> None:
    more = '[service.php]\nunits = ["php8.2-fpm"]\n[service.mail]\ninit = "postfix"'
    node = changed(tmp_path, ("[service.php]", more))
    assert lines(node / "etc/drbdbackup/not-at-boot") == ["mariadb", "php8.2-fpm", "postfix", "apache2"]
    assert lines(node / "etc/ha.d/haresources")[0].endswith(" mariadb postfix apache2 drbdbackup")


def test_the_folders_of_the_howto_are_moved_to_where_one_looks_for_them(sample: Path) -> None:
    text = (sample / "usr/local/sbin/pair-move-services").read_text()
    moved = dict(re.findall(r'^ {4}"\$1" (/\S+) "\$volume"/(\S+)$', text, re.MULTILINE))
    assert moved == {
        "/etc/mysql": "etc/mysql", "/var/lib/mysql": "mysql", "/etc/php": "etc/php",
        "/var/lib/php/sessions": "php/sessions", "/etc/apache2": "etc/apache2", "/var/www": "www",
    }  # fmt: skip


@pytest.mark.parametrize("services", ["", "[service.mysql]\n[service.php]\n[service.apache]"])
def test_shellcheck_has_nothing_to_say_about_the_scripts(tmp_path: Path, services: str) -> None:
    node = changed(tmp_path, ("[service.mysql]\n[service.php]\n[service.apache]", services))
    scripts = sorted(str(path) for path in (node / "usr/local/sbin").iterdir())
    assert len(scripts) == 3
    ended = subprocess.run(["shellcheck", "--shell=sh", *scripts], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_init_writes_nothing_over(tmp_path: Path) -> None:
    assert f"{tmp_path}/pair.toml" in does(tmp_path, "pair", "init")
    assert files(tmp_path) == {"pair.toml": 0o600}
    (tmp_path / "pair.toml").write_text("mine\n")
    assert "already exists" in refuses(tmp_path, "pair", "init", status=1)
    assert (tmp_path / "pair.toml").read_text() == "mine\n"
    assert json.loads(does(tmp_path, "pair", "init", "other.toml", "--json")) == {
        "schema": 1, "file": f"{tmp_path}/other.toml"
    }  # fmt: skip


def test_rendered_again_nothing_is_touched_and_the_secret_stays(tmp_path: Path) -> None:
    node = changed(tmp_path)
    before = {name: ((node / name).read_bytes(), (node / name).stat().st_mtime_ns) for name in PLACES}
    told = does(tmp_path, "pair", "render", "--out", "out")
    assert told == f"{tmp_path}/out: 28 files as before; the secret is that of the earlier rendering.\n"
    assert before == {name: ((node / name).read_bytes(), (node / name).stat().st_mtime_ns) for name in PLACES}


def test_a_change_is_told_and_nothing_else_is_written(tmp_path: Path) -> None:
    changed(tmp_path)
    text = (tmp_path / "pair.toml").read_text()
    (tmp_path / "pair.toml").write_text(text.replace("# port = 7788", "port = 7790"))
    would = json.loads(does(tmp_path, "pair", "render", "--out", "out", "--dry-run", "--json"))
    done = json.loads(does(tmp_path, "pair", "render", "--out", "out", "--json"))
    assert (would["dry_run"], done["dry_run"], done["secret"], done["schema"]) == (True, False, "kept", 1)
    assert would["files"] == done["files"]
    assert [one["path"] for one in done["files"] if one["state"] == "changed"] == [
        f"{node}/etc/{name}" for node in ("www4", "www5") for name in ("drbd.d/raid.res", "drbdbackup/pair.toml")
    ]


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    does(tmp_path, "pair", "init")
    assert "would create  www4/etc/ha.d/authkeys" in does(tmp_path, "pair", "render", "--out", "out", "--dry-run")
    assert not (tmp_path / "out").exists()
    assert "DRBDBACKUP_DEBUG" not in refuses(tmp_path, "pair", "render", "--out", "/proc/x", status=1)


def test_what_somebody_has_changed_is_told_and_made_right(tmp_path: Path) -> None:
    node = changed(tmp_path)
    (node / "etc/ha.d/authkeys").chmod(0o644)
    (node / "etc/ha.d/ha.cf").write_text("mine\n")
    (node / "etc/ha.d/haresources").unlink()
    told = does(tmp_path, "pair", "render", "--out", "out")
    assert re.findall(r"^  (\S+) +www4/etc/ha.d/(\S+)$", told, re.MULTILINE) == [
        ("changed", "ha.cf"), ("created", "haresources"), ("changed", "authkeys")
    ]  # fmt: skip
    assert files(node) == PLACES


def test_what_is_not_of_the_pair_any_more_is_told_and_left(tmp_path: Path) -> None:
    changed(tmp_path)
    (tmp_path / "out/notes").write_text("mine\n")
    node = changed(tmp_path, ("[node.www5]", "[node.www6]"), ('# resource = "raid"', 'resource = "web"'))
    told = does(tmp_path, "pair", "render", "--out", "out")
    assert "not of this pair any more  www4/etc/drbd.d/raid.res" in told
    assert "not of this pair any more  www5/etc/ha.d/authkeys" in told
    assert "notes" not in told
    assert (node / "etc/drbd.d/web.res").exists()
    assert (node / "etc/drbd.d/raid.res").exists()


def test_two_secrets_are_not_chosen_between(tmp_path: Path) -> None:
    node = changed(tmp_path)
    (node / "etc/ha.d/authkeys").write_text(f"auth 1\n1 sha1 {SECRET}\n")
    assert "hold different secrets" in refuses(tmp_path, "pair", "render", "--out", "out")
    (node / "etc/ha.d/authkeys").write_text("auth 1\n1 crc\n")
    assert "is not as it was rendered" in refuses(tmp_path, "pair", "render", "--out", "out")


def test_a_secret_of_the_file_goes_before_the_one_that_was_kept(tmp_path: Path) -> None:
    changed(tmp_path)
    node = changed(tmp_path, ('# secret = "..."', f'secret = "{SECRET}"'))
    assert SECRET in (node / "etc/ha.d/authkeys").read_text()


@pytest.mark.parametrize("mode", [0o755, 0o750])
def test_anothers_folder_is_not_taken_over(tmp_path: Path, mode: int) -> None:
    does(tmp_path, "pair", "init")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("")
    (tmp_path / "etc").chmod(mode)
    assert "others than its owner can look into it" in refuses(tmp_path, "pair", "render", "--out", "etc")
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == mode
    assert "is no folder" in refuses(tmp_path, "pair", "render", "--out", "pair.toml")


def test_nothing_that_another_user_has_left_is_believed_or_followed(tmp_path: Path) -> None:
    """In a folder of his he could choose the pair's secret, and where root writes."""
    does(tmp_path, "pair", "init")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "www5/etc/ha.d").mkdir(parents=True)
    (out / "www5/etc/ha.d/authkeys").write_text(f"auth 1\n1 sha1 {SECRET}\n")
    elsewhere.mkdir()
    (out / "www4").symlink_to(elsewhere)
    out.chmod(0o700)
    os.chown(out, 33, 33)
    for more in ((), ("--dry-run",)):
        assert "user 33" in refuses(tmp_path, "pair", "render", "--out", "out", *more)
    assert (out.stat().st_uid, list(elsewhere.iterdir())) == (33, [])


def test_an_empty_folder_is_taken_and_closed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o755)
    changed(tmp_path)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    node = changed(tmp_path)
    (tmp_path / "victim").write_text("mine\n")
    (node / "etc/ha.d/ha.cf").unlink()
    (node / "etc/ha.d/ha.cf").symlink_to(tmp_path / "victim")
    assert "changed  www4/etc/ha.d/ha.cf" in does(tmp_path, "pair", "render", "--out", "out")
    assert (tmp_path / "victim").read_text() == "mine\n"
    assert files(node) == PLACES


def test_a_mistake_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    does(tmp_path, "pair", "init")
    text = (tmp_path / "pair.toml").read_text()
    (tmp_path / "pair.toml").write_text(text.replace('virtual_ip = "133.10.10.10"', 'virtual_ip = "10.0.0.1"'))
    assert f'drbdbackup: {tmp_path}/pair.toml: public.virtual_ip = "10.0.0.1": must be ' in refuses(
        tmp_path, "pair", "render", "--out", "out"
    )
    assert not (tmp_path / "out").exists()
    ended = drbdbackup(tmp_path, "pair", "render", "--out", "out", "--json")
    assert json.loads(ended.stdout)["error"]["status"] == 2
