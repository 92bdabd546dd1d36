"""Too little room on a target: what may make way does, as much as must, and nothing else is ever touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.played_media import disk_image, loop_devices, mounted, nothing_is_left, wait_for
from tests.played_pair import PlayedPair, differences

MIB = 1 << 20


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """A share with room enough, and a disk of 48 MiB (about 37 of them free)."""
    disk_image(tmp_path / "disk.img")
    played = PlayedPair(tmp_path)
    played.add_disk("disk", str(tmp_path / "disk.img"))
    yield played
    assert nothing_is_left(tmp_path)


def keeps(pair: PlayedPair, minimum: int, daily: int = 0) -> None:
    """One retention for all targets."""
    pair.extra = f"[retention]\ndaily = {daily}\nweekly = 0\nmonthly = 0\nminimum = {minimum}"


def replaces(pair: PlayedPair) -> None:
    pair.targets["disk"] += '\non_full = "replace"'


def holds(pair: PlayedPair, size: int) -> None:
    """The volume's one large file, of random content: nothing of it is unchanged."""
    (pair.volume / "large").write_bytes(os.urandom(size))


def fill(folder: Path) -> None:
    """To the last byte."""
    with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def snapshots(pair: PlayedPair, target: str = "disk") -> list[str]:
    """By what the catalog knows, oldest first."""
    return [copy["snapshot"] for copy in reversed(pair.copies(target=target))]


def lying(pair: PlayedPair) -> list[str]:
    """What really lies on the disk, partial and hidden things too."""
    wait_for(lambda: not loop_devices(pair.folder), "the run's loop device to go")
    with mounted(pair.folder / "disk.img", pair.folder / "look", "loop", "ro") as at:
        return sorted(name for name in os.listdir(at / "drbdbackup/raid") if name != "latest")


def disk_fails(pair: PlayedPair) -> str:
    """A run that completes the share only; what it says."""
    before = snapshots(pair)
    ended = pair.run("www4", "run")
    assert ended.returncode == 3, ended.stderr
    assert snapshots(pair) == before == lying(pair)
    assert differences(pair.volume, pair.newest("nas")) == []
    return ended.stderr


def disk_is_whole(pair: PlayedPair) -> None:
    restored = pair.folder / "restored"
    ended = pair.run("www4", "restore", "--from", "disk", "--to", str(restored), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert differences(pair.volume, restored) == []
    shutil.rmtree(restored)


def test_only_as_many_make_way_as_are_needed(pair: PlayedPair) -> None:
    keeps(pair, 9)
    for _ in range(5):
        holds(pair, 6 * MIB)
        pair.backs_up()
    keeps(pair, 1)
    holds(pair, 11 * MIB)
    before = snapshots(pair)
    pair.backs_up()
    journal = (pair.folder / "state-www4/journal").read_text().splitlines()
    events = [event for event in map(json.loads, journal) if event.get("target") == "disk"]
    ready = [event["event"] for event in events].index("ready")
    made_way = [event["snapshot"] for event in events[:ready] if event["event"] == "pruned"]
    assert made_way == before[:1]
    gone = [event["snapshot"] for event in events if event["event"] in ("pruned", "recycled")]
    assert sorted(gone) == before, "and the others by their turn, one of them as the beginning of the new one"
    disk_is_whole(pair)


def test_what_makes_way_is_foretold(pair: PlayedPair) -> None:
    keeps(pair, 9)
    for size in (6, 6, 6, 6):
        holds(pair, size * MIB)
        pair.backs_up()
    before = snapshots(pair)
    keeps(pair, 3)  # the oldest would go anyway once the new one is there; the second oldest after it
    holds(pair, 16 * MIB)
    [run] = pair.json("www4", "run", "--dry-run")["runs"]
    [told] = [one for one in run["targets"] if one["target"] == "disk"]
    assert "removed first, as many as are needed: " + before[0] in told["notes"][0]
    assert before[1] not in told["notes"][0], "below three whole ones before the new one is there"
    assert told["counts"]["needed_bytes"] > told["counts"]["free_bytes"]
    assert snapshots(pair) == before
    pair.backs_up()
    assert snapshots(pair)[:-1] == before[2:] == lying(pair)[:-1]
    disk_is_whole(pair)


def test_nothing_makes_way_where_there_is_room(pair: PlayedPair) -> None:
    keeps(pair, 9)
    for _ in range(3):
        holds(pair, 4 * MIB)
        pair.backs_up()
    assert len(snapshots(pair)) == 3
    [run] = pair.json("www4", "run", "--dry-run")["runs"]
    assert [one["notes"] for one in run["targets"]] == [[], []]


def test_the_floor_is_never_gone_below(pair: PlayedPair) -> None:
    keeps(pair, 3)
    for _ in range(3):
        holds(pair, 8 * MIB)
        pair.backs_up()
    holds(pair, 20 * MIB)
    said = disk_fails(pair)
    assert "are missing" in said
    assert "MiB" in said
    assert "[retention]" in said
    assert pair.run("www4", "verify").returncode == 0


def test_the_last_verified_one_does_not_make_way(pair: PlayedPair) -> None:
    keeps(pair, 9)
    holds(pair, 12 * MIB)
    pair.backs_up()
    assert pair.run("www4", "verify").returncode == 0
    holds(pair, 12 * MIB)
    pair.backs_up()
    keeps(pair, 1)
    holds(pair, 20 * MIB)
    disk_fails(pair)


def test_what_certainly_does_not_fit_is_not_begun(pair: PlayedPair) -> None:
    holds(pair, MIB)
    pair.backs_up()
    holds(pair, 60 * MIB)
    said = disk_fails(pair)
    assert "the copy needs 60.0 MiB" in said
    assert 'on_full = "replace"' in said
    foreseen = pair.run("www4", "run", "--dry-run")
    assert "are missing" in foreseen.stdout
    assert foreseen.returncode == 3, "as the run"
    holds(pair, 10 * MIB)
    pair.backs_up("www4", "--accept-shrink")
    disk_is_whole(pair)


def test_holes_need_no_room(pair: PlayedPair) -> None:
    with open(pair.volume / "sparse", "wb") as file:
        file.truncate(500 * MIB)
        file.write(b"x" * 5000)
    pair.backs_up()
    disk_is_whole(pair)


def test_a_disk_full_to_the_last_byte_of_what_a_crash_left_heals(pair: PlayedPair) -> None:
    holds(pair, 4 * MIB)
    pair.backs_up()
    with mounted(pair.folder / "disk.img", pair.folder / "look", "loop") as at:
        left = at / "drbdbackup/raid/.partial-20260101T000000Z-www4/data"
        left.mkdir(parents=True)
        fill(left)
    holds(pair, 4 * MIB)
    pair.backs_up()
    assert lying(pair) == snapshots(pair)
    disk_is_whole(pair)


def test_a_disk_that_others_have_filled_up_gets_room_from_retention(pair: PlayedPair) -> None:
    keeps(pair, 9)
    for _ in range(3):
        holds(pair, 8 * MIB)
        pair.backs_up()
    keeps(pair, 1)
    with mounted(pair.folder / "disk.img", pair.folder / "look", "loop") as at:
        fill(at)
    holds(pair, 8 * MIB)
    pair.backs_up()
    disk_is_whole(pair)


def test_btrfs_gives_the_room_of_what_made_way(tmp_path: Path) -> None:
    disk_image(tmp_path / "disk.img", "btrfs", "200M")
    pair = PlayedPair(tmp_path)
    pair.add_disk("disk", str(tmp_path / "disk.img"))
    keeps(pair, 9)
    for _ in range(2):
        holds(pair, 50 * MIB)
        pair.backs_up()
    keeps(pair, 1)
    holds(pair, 58 * MIB)
    pair.backs_up()
    assert len(snapshots(pair)) == 1
    disk_is_whole(pair)
    assert nothing_is_left(tmp_path)
