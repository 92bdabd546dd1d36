"""What differs between two snapshots, or a snapshot and the volume now, is told: all of it, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.played_media import disk_image, nothing_is_left, share, stopped, tool, wait_for
from tests.played_pair import PlayedPair
from tests.played_restore import furnished, rot, spoil
from tests.played_terminal import ROWS, at_a_terminal
from tests.played_volume import is_free, on_a_device
from tests.settled import settled_volume, wait_until_settled


def furnish(volume: Path) -> None:
    for name in ("kept", "written", "touched", "removed", "mode"):
        (volume / name).write_text("12345")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    settled_volume(played.volume, furnish)
    played.backs_up()
    return played


def changed(volume: Path) -> None:
    (volume / "written").write_text("54321")
    os.utime(volume / "written", ns=(1, (volume / "kept").stat().st_mtime_ns))
    os.utime(volume / "touched", ns=(1, 1))
    (volume / "removed").unlink()
    (volume / "mode").chmod(0o600)
    (volume / "new").mkdir()
    (volume / "new/file").write_text("1234567")
    wait_until_settled(volume)


DIFFERS = [
    ("mode", "attributes", ["mode"]), ("new", "added", []), ("new/file", "added", []), ("removed", "removed", []),
    ("touched", "attributes", ["time"]), ("written", "content", ["content"]),
]  # fmt: skip


def told(found: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """But for the write time of `written`, which was put back."""
    return [(one["path"], one["change"], one["what"]) for one in found["changes"]]


def names(pair: PlayedPair, node: str = "www4") -> list[str]:
    """Oldest first."""
    return list(dict.fromkeys(copy["snapshot"] for copy in reversed(pair.copies(node))))


def test_two_snapshots(pair: PlayedPair) -> None:
    changed(pair.volume)
    pair.backs_up()
    first, second = names(pair)
    found = pair.json("www4", "diff", first, second)
    assert told(found) == DIFFERS
    assert found["counts"] == {"added": 2, "removed": 1, "content": 1, "attributes": 2, "same": 2}
    assert found["bytes"] == {"added": 7, "removed": 5, "content": 5, "attributes": 10}
    assert (found["before"]["snapshot"], found["after"]["snapshot"]) == (first, second)
    back = pair.json("www4", "diff", second, first)
    assert {one["change"] for one in back["changes"] if one["path"].startswith("new")} == {"removed"}
    assert pair.json("www4", "diff", first, first)["changes"] == []


def test_a_snapshot_and_now(pair: PlayedPair) -> None:
    [first] = names(pair)
    assert pair.json("www4", "diff", first, "now")["changes"] == []
    changed(pair.volume)
    found = pair.json("www4", "diff", first, "now")
    assert told(found) == DIFFERS
    assert found["after"]["snapshot"] is None
    assert {one["change"] for one in pair.json("www4", "diff", "now", first)["changes"]} == {
        "added", "removed", "content", "attributes",
    }  # fmt: skip


def test_for_people_it_is_a_line_for_each_and_the_sums(pair: PlayedPair) -> None:
    [first] = names(pair)
    changed(pair.volume)
    (pair.volume / "evil\x1b[31m").write_text("")
    ended = pair.run("www4", "diff", first[:8], "now")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith(f"raid: from {first} on nas (")
    assert "  added       new/" in lines
    assert "  attributes  mode (mode)" in lines
    assert "  content     written (5 B)" in lines
    assert lines[-1].startswith("3 added (7 B), 1 removed (5 B), 1 with other content (5 B), 2 with other attributes")
    assert "\x1b" not in ended.stdout


def test_a_renamed_folder_is_one_line_and_hides_nothing(pair: PlayedPair) -> None:
    """Of 40 files; what is in it and has changed is told, and a folder inside that has not is still one line."""
    for name in ("shop/deep", "shop/kept", "other"):
        (pair.volume / name).mkdir(parents=True)
        for number in range(20):
            (pair.volume / name / f"{number}").write_text(f"{name} {number:02}")
    wait_until_settled(pair.volume)
    pair.backs_up()
    (pair.volume / "shop").rename(pair.volume / "shop.old")
    wait_until_settled(pair.volume)
    pair.backs_up()
    _, first, second = names(pair)
    for to in ("now", second):
        found = pair.json("www4", "diff", first, to)
        assert found["renamed"] == [{"from": "shop", "to": "shop.old", "entries": 43, "bytes": 480}]
        assert (found["counts"]["added"], found["counts"]["removed"]) == (43, 43), "a script is told of each entry"
        lines = pair.run("www4", "diff", first, to).stdout.splitlines()
        assert lines[1:-1] == ["  renamed     shop/ -> shop.old/ (43 entries, 480 B)"]
        assert lines[-1].startswith("1 folder renamed (480 B), 0 added, 0 removed, 0 with other content")
    (pair.volume / "shop.old/deep/3").write_text("other")
    (pair.volume / "other/1").write_text("other")
    wait_until_settled(pair.volume)
    lines = pair.run("www4", "diff", first, "now").stdout.splitlines()
    assert "  renamed     shop/kept/ -> shop.old/kept/ (21 entries, 240 B)" in lines
    assert "  added       shop.old/deep/3 (5 B)" in lines
    assert "  content     other/1 (8 B -> 5 B)" in lines
    found = pair.json("www4", "diff", first, "now", "--path", "other/")
    assert (found["path"], [one["path"] for one in found["changes"]]) == ("other", ["other/1"])
    assert found["counts"]["same"] == 20, "the folder is one of them"
    by_folder = pair.run("www4", "diff", first, "now", "--stat").stdout.splitlines()
    assert [line.split() for line in by_folder[1:-1]] == [
        ["FOLDER", "ADDED", "REMOVED", "CHANGED", "RENAMED", "SIZE"], ["other/", "-", "-", "1", "-", "-3", "B"],
        ["shop/", "-", "22", "-", "-", "-240", "B"], ["shop.old/", "22", "-", "-", "1", "+233", "B"],
    ]  # fmt: skip
    assert pair.run("www4", "diff", first, "now", "--path", "oter").returncode == 6
    assert pair.run("www4", "diff", first, "now", "--path", "../x").returncode == 2


def test_on_a_terminal_a_pager_has_it(pair: PlayedPair, tmp_path: Path) -> None:
    [first] = names(pair)
    changed(pair.volume)
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\ntest "$1" = "-a b" && sed "s/^/| /"\n')
    pager.chmod(0o755)
    told = " ".join(pair.command("www4", "diff", first, "now"))
    for words, is_paged in (
        (f"PAGER=\"{pager} '-a b'\" {told}", True), (f"PAGER={pager} {told} --no-pager", False),
        (f"PAGER= {told}", False), (f"PAGER=/nowhere/pager {told}", False), (f"PAGER={pager} {told} | cat", False),
        (f"PAGER={pager} {told} --json", False),
    ):  # fmt: skip
        status, seen = at_a_terminal(f"TERM=xterm {words}", [])
        assert status == 0, seen
        assert ("| raid: from" in seen) == is_paged, words
        assert "removed" in seen
        assert "Traceback" not in seen
    for number in range(ROWS):
        (pair.volume / f"more-{number}").touch()
    for by in ("PAGER=true SUDO_UID=33", "SUDO_UID=33", "PKEXEC_UID=33"):  # who may run this, and nothing else, as root
        typed = f"!touch {tmp_path}/owned\r".encode()
        at_a_terminal(f"exec env TERM=xterm {by} {told}", [("more-1", typed), ("RETURN", signal.SIGTERM)])
        assert not (tmp_path / "owned").exists(), by
    status, seen = at_a_terminal(f"TERM=xterm PAGER=true {told}", [])
    assert (status, seen) == (0, ""), "who leaves the pager has seen enough"
    slow = tmp_path / "slow"
    on_term = "trap 'echo put right; exit' TERM"
    slow.write_text(f"#!/bin/sh\n{on_term}\ncat > /dev/null\necho reading\nwhile sleep 0.1; do :; done\n")
    slow.chmod(0o755)
    status, seen = at_a_terminal(f"TERM=xterm PAGER={slow} exec {told}", [("reading", signal.SIGTERM)])
    assert status == 143, seen
    assert "put right" in seen, "what ends us ends the pager, which is given a moment for its terminal"


def test_a_bad_day_is_told_to_the_last_entry(tmp_path: Path) -> None:
    """Against a volume with everything that is hard to keep, and links, folders and files swapped for one another."""
    pair = furnished(tmp_path)
    wait_until_settled(pair.volume)
    pair.backs_up()
    [first] = names(pair)
    assert told(pair.json("www4", "diff", first, "now")) == []
    spoil(pair.volume)
    wait_until_settled(pair.volume)
    pair.backs_up()
    against_now, against_copy = (pair.json("www4", "diff", first, to) for to in ("now", names(pair)[1]))
    assert against_now["changes"] == against_copy["changes"]
    by_path = {one["path"]: one["change"] for one in against_now["changes"]}
    assert by_path["www/site/same"] == by_path["old"] == by_path["queue"] == by_path["locked"] == "content"
    assert by_path["mail/1"] == "attributes"
    assert by_path["mail/1-again"] == "removed"
    assert by_path["old/intruder"] == by_path["intruders"] == by_path["intruders/deep/one"] == "added"


def test_what_came_back_by_a_restore_is_the_same(pair: PlayedPair) -> None:
    [first] = names(pair)
    (pair.volume / "kept").rename(pair.folder / "lost")  # not removed: its inode would be free for what comes back
    assert pair.run("www4", "restore", "--in-place", "--yes").returncode == 0
    assert pair.json("www4", "diff", first, "now")["changes"] == []


def test_each_side_comes_from_where_it_can_be_read(pair: PlayedPair) -> None:
    pair.add_disk("disk", f"{pair.folder}/disk-{{node}}.img")
    disk_image(pair.folder / "disk-www4.img")
    changed(pair.volume)
    pair.backs_up("www4", "--target", "disk")
    first, second = names(pair)
    found = pair.json("www4", "diff", first, second)
    assert told(found) == DIFFERS
    assert [found[side]["location"].partition(":")[0] for side in ("before", "after")] == ["nas", "www4"]
    assert nothing_is_left(pair.folder)
    rot(pair.newest("nas").parent / "manifest.gz")
    ended = pair.run("www4", "diff", first, second)
    assert ended.returncode == 6
    assert "damaged" in ended.stderr


def test_only_the_primary_has_a_now(pair: PlayedPair) -> None:
    [first] = names(pair)
    pair.roles("www5")
    ended = pair.run("www4", "diff", first, "now")
    assert ended.returncode == 4
    assert "Secondary" in ended.stderr
    assert pair.json("www5", "diff", first, first)["changes"] == []


def test_what_makes_no_sense_is_told(pair: PlayedPair) -> None:
    assert pair.run("www4", "diff", "now", "now").returncode == 2
    assert pair.run("www4", "diff", "1999", "now").returncode == 6
    assert pair.run("www4", "diff", "now").returncode == 2
    assert pair.run("www4", "diff", "", "now").returncode == 2, "an unset variable is not the newest snapshot"


def test_a_share_that_hangs_is_given_up(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra="[limits]\nprobe = 1\n")
    (pair.volume / "page").write_text("x")
    with share(tmp_path / "nas", tmp_path / "behind") as played:
        pair.backs_up()
        [first] = names(pair)
        with stopped(played):
            ended = pair.run("www4", "diff", first, "now", timeout=60)
    assert ended.returncode == 6
    assert "nothing moved" in ended.stderr


def test_an_unmounted_volume_ends_it_at_once_and_is_free(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        [first] = names(pair)
        device = pair.resource.split('"')[1]
        comparing = preloaded.Popen(pair.command("www4", "diff", first, "now"), stdout=-1, stderr=-1, text=True)
        try:
            wait_for(lambda: list((pair.folder / "state-www4").glob("scratch/*/after")), "the walk to begin")
            comparing.send_signal(signal.SIGSTOP)
            wait_for(lambda: not subprocess.run(["umount", pair.volume], capture_output=True).returncode, "the unmount")
            comparing.send_signal(signal.SIGCONT)
            wait_for(lambda: is_free(device), "the device to be free", patience=10)
            said = comparing.communicate(timeout=60)[1]
        finally:
            comparing.kill()
            comparing.wait()
        assert comparing.returncode == 7, said
        assert not (pair.folder / "state-www4/holding").exists()
        tool("mount", device, pair.volume)
        assert pair.json("www4", "diff", first, "now")["changes"] == []


def test_the_clusters_agent_has_it_let_go(tmp_path: Path) -> None:
    """As it does with a run: it asks who holds the lock while the volume is in use."""
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        [first] = names(pair)
        comparing = preloaded.Popen(pair.command("www4", "diff", first, "now"), stdout=-1, stderr=-1, text=True)
        try:
            wait_for(lambda: list((pair.folder / "state-www4").glob("scratch/*/after")), "the walk to begin")
            assert (pair.folder / "state-www4/holding").exists()
            assert f"process {comparing.pid}," in (pair.folder / "state-www4/lock").read_text()
            comparing.send_signal(signal.SIGUSR1)
            said = comparing.communicate(timeout=60)[1]
        finally:
            comparing.kill()
            comparing.wait()
        assert comparing.returncode == 7, said
        assert not (pair.folder / "state-www4/holding").exists()
        tool("umount", pair.volume)
