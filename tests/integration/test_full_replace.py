"""on_full = "replace": a disk without room for two gives its last copy up, only while another one vouches for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_full_targets import MIB, disk_fails, disk_is_whole, holds, keeps, lying, replaces, snapshots
from tests.played_media import disk_image, mount_points, nothing_is_left
from tests.played_pair import PlayedPair, differences


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """A disk of 48 MiB with one copy of 25, and the share has the same; tonight's will be another 25."""
    disk_image(tmp_path / "disk.img")
    played = PlayedPair(tmp_path)
    played.add_disk("disk", str(tmp_path / "disk.img"))
    keeps(played, 1)
    (played.volume / "small").write_text("x")
    holds(played, 25 * MIB)
    played.backs_up()
    holds(played, 25 * MIB)
    yield played
    assert nothing_is_left(tmp_path)


def test_without_it_the_last_copy_stays(pair: PlayedPair) -> None:
    assert 'on_full = "replace"' in disk_fails(pair)


def test_the_last_copy_is_given_up_for_the_new_one(pair: PlayedPair) -> None:
    replaces(pair)
    before = snapshots(pair)
    assert "given up" in pair.run("www4", "run", "--dry-run").stdout
    pair.backs_up()
    assert len(snapshots(pair)) == 1
    assert snapshots(pair) != before
    assert lying(pair) == snapshots(pair)
    disk_is_whole(pair)


def test_not_where_a_copy_is_pinned(pair: PlayedPair) -> None:
    replaces(pair)
    pinned = snapshots(pair)[0]
    assert pair.run("www4", "pin", pinned).returncode == 0
    assert f"its last copies were not given up: {pinned} is pinned there" in disk_fails(pair)
    assert pair.run("www4", "unpin", pinned).returncode == 0
    pair.backs_up()
    assert pinned not in snapshots(pair)


def test_not_if_the_other_target_is_gone(pair: PlayedPair) -> None:
    replaces(pair)
    before = snapshots(pair)
    shutil.move(pair.folder / "nas", pair.folder / "away")
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "its last copies were not given up: nas: " in ended.stderr
    assert snapshots(pair) == before == lying(pair)


def test_not_if_no_process_can_look_at_the_other_copy(pair: PlayedPair) -> None:
    """Its line is the last of six: that of what cages are forked from, of a try, of the walk and of two copies."""
    replaces(pair)
    before = snapshots(pair)
    lines = ("-e", "trace=socketpair", "-e", "inject=socketpair:error=EMFILE:when=6")
    pair.under = ("strace", "--follow-forks", "--seccomp-bpf", "-o", str(pair.folder / "met"), *lines)
    ended = pair.run("www4", "run")
    assert ended.returncode == 3, ended.stderr
    assert "were not given up: nas: a process could not be started: Too many open files" in ended.stderr
    assert snapshots(pair) == before == lying(pair)


def test_not_if_the_other_copy_is_older(pair: PlayedPair) -> None:
    replaces(pair)
    pair.backs_up("www4", "--target", "disk")
    holds(pair, 25 * MIB)
    before = snapshots(pair)
    ended = pair.run("www4", "run", "--target", "disk")
    assert ended.returncode == 1, ended.stderr
    assert "no other target here is known to hold a whole copy that is as new" in ended.stderr
    assert snapshots(pair) == before == lying(pair)


def test_not_if_the_other_copy_turns_out_to_lack_a_file(pair: PlayedPair) -> None:
    replaces(pair)
    (pair.newest("nas") / "small").unlink()
    before = snapshots(pair)
    ended = pair.run("www4", "run", "--target", "disk")
    assert ended.returncode == 1, ended.stderr
    assert "is damaged (1 problem)" in ended.stderr
    assert snapshots(pair) == before == lying(pair)


def test_not_for_a_copy_that_would_not_fit_even_then(pair: PlayedPair) -> None:
    replaces(pair)
    holds(pair, 60 * MIB)
    assert "a copy alone needs" in disk_fails(pair)


def test_not_for_a_source_that_is_suspiciously_small(pair: PlayedPair) -> None:
    replaces(pair)
    pair.extra += '\n[limits]\nshrink = 0.99'
    holds(pair, 24 * MIB)
    before = snapshots(pair)
    [run] = pair.json("www4", "run", status=3)["runs"]
    assert run["error"]["code"] == "run.held"
    assert snapshots(pair) == before == lying(pair)


def test_two_that_want_to_give_theirs_up_do_not_vouch_for_each_other(pair: PlayedPair) -> None:
    disk_image(pair.folder / "other.img")
    pair.add_disk("other", str(pair.folder / "other.img"))
    replaces(pair)
    pair.targets["other"] += '\non_full = "replace"'
    pair.backs_up()
    del pair.targets["nas"]
    before = {"disk": snapshots(pair), "other": snapshots(pair, "other")}
    assert before["disk"] == before["other"]
    holds(pair, 25 * MIB)
    ended = pair.run("www4", "run")
    assert ended.returncode in (1, 3), ended.stderr  # 1: each saw that the other one wanted to, and neither did
    assert "its last copies were not given up" in ended.stderr
    assert [snapshots(pair, name) == kept for name, kept in before.items()].count(True) >= 1
    assert pair.run("www4", "verify").returncode == 0


@pytest.mark.parametrize("word", ["opened", "pruned", "ready"])
def test_a_kill_in_between_leaves_latest_with_the_other_one(pair: PlayedPair, word: str) -> None:
    replaces(pair)
    pair.targets = dict(reversed(pair.targets.items()))  # the disk would be named first
    [old] = snapshots(pair)
    killed_after(pair, word)
    assert mount_points(pair.folder) == []
    if word == "opened":
        assert lying(pair) == [old]
    else:
        assert pair.json("www4", "latest")["backup"]["target"] == "nas"
        assert all(copy["damaged_at"] for copy in pair.copies(target="disk"))
    assert pair.run("www4", "verify", "--target", "nas").returncode == 0
    pair.backs_up()
    assert lying(pair) == snapshots(pair)
    disk_is_whole(pair)
    assert differences(pair.volume, pair.newest("nas")) == []


def killed_after(pair: PlayedPair, word: str) -> None:
    """Run for the disk alone and kill that right after this event of its journal, which is a FIFO meanwhile."""
    journal = pair.folder / "state-www4/journal"
    journal.unlink(missing_ok=True)
    os.mkfifo(journal)
    argv = pair.command("www4", "run", "--target", "disk")
    run = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = []
    with journal.open() as events:
        for line in events:
            lines.append(line)
            if f'"event": "{word}"' in line:
                run.send_signal(signal.SIGKILL)
                break
        else:
            raise AssertionError(f"no event {word}: {lines}")
    run.wait(60)
    journal.unlink()
    journal.write_text("".join(lines))
