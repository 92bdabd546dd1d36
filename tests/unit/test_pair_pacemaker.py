"""A pair that Pacemaker swaps: what differs in its files from those of Heartbeat."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from tests.unit.test_pair_render import PLACES, ROOT, SECRET, changed, does, files, lines, refuses

TABLE = ("# [pacemaker]", "[pacemaker]")
HEARTBEATS = {name: mode for name, mode in PLACES.items() if name.startswith("etc/ha.d/")}
PACEMAKERS = {
    "etc/corosync/corosync.conf": 0o600, "etc/drbdbackup/pair.secret": 0o600, "etc/drbdbackup/pair.crm": 0o644,
    "usr/lib/ocf/resource.d/drbdbackup/drbdbackup": 0o755,
}  # fmt: skip


def statements(file: Path) -> list[list[str]]:
    """The words of each statement of crm; a backslash at its end continues a line."""
    text = "\n".join(lines(file)).replace("\\\n", " ")
    return [line.split() for line in text.splitlines()]


def test_corosync_and_pacemaker_have_the_place_of_heartbeat(tmp_path: Path) -> None:
    node = changed(tmp_path, TABLE)
    assert files(node) == {**{name: mode for name, mode in PLACES.items() if name not in HEARTBEATS}, **PACEMAKERS}
    agent = node / "usr/lib/ocf/resource.d/drbdbackup/drbdbackup"
    assert agent.read_bytes() == (ROOT / "drbdbackup/share/resource-agent").read_bytes()


def test_corosync_speaks_over_both_links_with_a_key_of_its_own(tmp_path: Path) -> None:
    node = changed(tmp_path, TABLE, ('# secret = "..."', f'secret = "{SECRET}"'))
    text = (node / "etc/corosync/corosync.conf").read_text()
    assert text.count("{") == text.count("}")
    assert re.findall(r"name: (\S+)\n +nodeid: (\d)\n +ring0_addr: (\S+)\n +ring1_addr: (\S+)", text) == [
        ("www4", "1", "192.168.12.2", "133.10.10.5"), ("www5", "2", "192.168.12.3", "133.10.10.6")
    ]  # fmt: skip
    [key] = re.findall(r"key: (\S+)", text)
    assert len(key) == 256
    assert SECRET not in text
    assert key[:40] not in (node / "etc/drbd.d/raid.res").read_text()
    assert re.findall(r"token: (\d+)", text) == ["5000"]


def test_the_backup_is_the_first_to_let_go_and_needs_the_volume_only(tmp_path: Path) -> None:
    told = statements(changed(tmp_path, TABLE) / "etc/drbdbackup/pair.crm")
    [group] = [words[2:] for words in told if words[0] == "group"]
    assert group == ["fs_raid", "address_raid", "service_mysql", "service_apache"]
    assert [words[2:] for words in told if words[1].startswith("backup_raid_")] == [
        ["inf:", "backup_raid", "fs_raid"], ["Mandatory:", "fs_raid", "backup_raid"],
        ["Optional:", "service_mysql", "backup_raid"], ["Optional:", "service_apache", "backup_raid"],
    ]  # fmt: skip
    named = {words[1]: words[2] for words in told if words[0] == "primitive"}
    assert {*group, "backup_raid"} <= set(named)
    assert (named["backup_raid"], named["service_mysql"]) == ("ocf:drbdbackup:drbdbackup", "systemd:mariadb")


def test_no_comment_is_one_that_crm_refuses(tmp_path: Path) -> None:
    """crmsh stores a comment as XML, with no "--" in it and no "-" at its end, and refuses the whole file otherwise."""
    text = (changed(tmp_path, TABLE) / "etc/drbdbackup/pair.crm").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments
    assert [line for line in comments if "--" in line or line.rstrip().endswith("-")] == []


def test_a_service_without_a_unit_is_started_by_its_script(tmp_path: Path) -> None:
    more = '[service.php]\n[service.mail]\ninit = "mail"\nunits = []\n[service.web]\ninit = "web"\nunits = ["a", "b"]'
    told = statements(changed(tmp_path, TABLE, ("[service.php]", more)) / "etc/drbdbackup/pair.crm")
    named = {words[1]: words[2] for words in told if words[0] == "primitive" and words[1].startswith("service_")}
    assert named == {
        "service_mysql": "systemd:mariadb", "service_mail": "lsb:mail", "service_web_1": "systemd:a",
        "service_web_2": "systemd:b", "service_apache": "systemd:apache2",
    }  # fmt: skip


def test_the_node_starts_pacemaker_and_neither_heartbeat_nor_drbd(tmp_path: Path) -> None:
    text = (changed(tmp_path, TABLE) / "usr/local/sbin/pair-prepare").read_text()
    assert re.findall(r"^at_boot (\S+) (drbd|heartbeat|corosync|pacemaker)", text, re.MULTILINE) == [
        ("disable", "drbd"), ("enable", "corosync"), ("enable", "pacemaker")
    ]  # fmt: skip
    assert "refuse_missing_script" not in text
    assert "Heartbeat" not in text


def test_the_secret_is_kept_by_the_next_rendering_also_when_the_manager_changes(tmp_path: Path) -> None:
    node = changed(tmp_path)
    [secret] = re.findall(r"sha1 (\S+)", (node / "etc/ha.d/authkeys").read_text())
    changed(tmp_path, TABLE)
    assert (node / "etc/drbdbackup/pair.secret").read_text() == f"{secret}\n"
    assert stat.S_IMODE((node / "etc/drbdbackup/pair.secret").stat().st_mode) == 0o600
    assert "kept" in does(tmp_path, "pair", "render", "--out", "out", "--json")


def test_both_managers_at_once_are_a_mistake(tmp_path: Path) -> None:
    does(tmp_path, "pair", "init")
    with (tmp_path / "pair.toml").open("a") as file:
        file.write("[pacemaker]\n[heartbeat]\n")
    assert "not together with [heartbeat]" in refuses(tmp_path, "pair", "render", "--out", "out")


def test_what_lies_on_a_node_tells_the_same_pair(tmp_path: Path) -> None:
    first = changed(tmp_path, TABLE, ("# token = 5", "token = 7"))
    again = tmp_path / "again"
    again.mkdir()
    (again / "pair.toml").write_bytes((first / "etc/drbdbackup/pair.toml").read_bytes())
    node = changed(again)
    same = {name for name in files(first) if (node / name).read_bytes() == (first / name).read_bytes()}
    assert set(files(first)) - same == {
        "etc/drbd.d/raid.res", "etc/corosync/corosync.conf", "etc/drbdbackup/pair.secret"
    }  # fmt: skip
