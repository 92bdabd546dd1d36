"""A run believes the media before the catalog, never builds on damage, and never pushes good copies out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_media import IGNORES_OWNERS, disk, disk_image, mounted, nothing_is_left, share, tool
from tests.played_pair import PlayedPair, differences
from tests.settled import settled_volume


def furnish(volume: Path) -> None:
    for number in range(20):
        (volume / f"file-{number}").write_text(f"{number}" * 500)
        os.chown(volume / f"file-{number}", 100 + number, 200)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    played = PlayedPair(tmp_path)
    settled_volume(played.volume, furnish)
    yield played
    assert nothing_is_left(tmp_path)


def snapshots(pair: PlayedPair) -> list[str]:
    """What really lies on the NAS."""
    return sorted(name for name in os.listdir(pair.folder / "nas/drbdbackup/raid") if name[0] == "2")


def test_copies_that_are_not_there_any_more_do_not_count(pair: PlayedPair) -> None:
    pair.extra = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 3"
    for _ in range(3):
        pair.backs_up()
    snapshots_before = snapshots(pair)
    for name in snapshots_before[1:]:
        shutil.rmtree(pair.folder / "nas/drbdbackup/raid" / name)
    [run] = pair.json("www4", "run")["runs"]
    assert [one["missing"] for one in run["targets"]] == [snapshots_before[1:]]
    [run] = pair.json("www4", "run")["runs"]
    assert [one["missing"] for one in run["targets"]] == [[]], "it is said once"
    assert len(snapshots(pair)) == 3
    assert [copy["snapshot"] for copy in pair.copies()] == sorted(snapshots(pair), reverse=True)
    told = pair.run("www4", "runs", "--limit", "2").stdout
    assert "2 copies not there any more" in told, "nobody of us pruned them"
    assert " pruned" not in told


def test_a_copy_whose_fact_was_lost_is_known_again(pair: PlayedPair) -> None:
    pair.backs_up()
    shutil.rmtree(pair.folder / "state-www4")
    shutil.rmtree(pair.folder / "nas/drbdbackup/catalog")
    shutil.rmtree(pair.volume / ".drbdbackup")
    pair.backs_up()
    assert [copy["snapshot"] for copy in pair.copies()] == sorted(snapshots(pair), reverse=True)
    assert [copy["sequence"] for copy in pair.copies()] == [2, 1]


def test_found_damage_is_not_built_on(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    rotten = pair.newest("nas") / "file-7"
    seen = rotten.stat()
    rotten.write_bytes(b"x" + rotten.read_bytes()[1:])
    os.utime(rotten, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert pair.run("www4", "verify").returncode == 1
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []
    assert pair.run("www4", "verify").returncode == 0


def test_a_share_that_learns_to_hold_owners_gets_them(pair: PlayedPair) -> None:
    (pair.folder / "behind").mkdir()
    with share(pair.folder / "nas", pair.folder / "behind", *IGNORES_OWNERS):
        pair.backs_up()
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        assert differences(pair.volume, pair.newest("nas")) == []
        assert pair.run("www4", "verify").returncode == 0


def test_a_source_that_is_suddenly_empty_is_held_back(pair: PlayedPair) -> None:
    pair.backs_up()
    before = snapshots(pair)
    for path in pair.volume.glob("file-*"):
        path.unlink()
    [run] = pair.json("www4", "run", status=3)["runs"]
    assert run["error"]["code"] == "run.held"
    assert "--accept-shrink" in run["error"]["hint"]
    assert snapshots(pair) == before
    pair.backs_up("www4", "--accept-shrink")
    assert len(snapshots(pair)) == 2


def test_what_crashes_left_does_not_fill_a_disk_for_ever(pair: PlayedPair) -> None:
    """Nothing can be linked from it on btrfs, so it goes before the copy and not after it."""
    image = disk_image(pair.folder / "disk.img", "btrfs", "200M")
    pair.add_disk("disk", str(image))
    pair.backs_up()
    with mounted(image, pair.folder / "at", "loop") as at:
        left = at / "drbdbackup/raid/.partial-20260101T000000Z-www4/data"
        left.mkdir(parents=True)
        (left / "large").write_bytes(os.urandom(90 << 20))
    (pair.volume / "large").write_bytes(os.urandom(60 << 20))
    pair.backs_up()


def test_the_same_night_on_one_target_only_does_not_count(pair: PlayedPair) -> None:
    pair.head = 'schedule = "* * * * *"'
    pair.add_share("other")
    pair.backs_up("www4", "--target", "nas")
    assert pair.copies(target="other") == []
    pair.backs_up("www4", "--if-due")
    assert len(pair.copies(target="other")) == 1


def opens_late(pair: PlayedPair, condition: str) -> None:
    """A target that is not opened before that is so on the other one; what it holds has a sequence of 9.

    Nobody has heard of that, or of any other copy: the catalogs are lost.
    """
    pair.add_share("late")
    pair.backs_up()
    sidecar = pair.newest("late").parent / "snapshot.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "sequence": 9}))
    for catalogs in ("state-www4/incoming", "nas/drbdbackup/catalog", "late/drbdbackup/catalog", "volume/.drbdbackup"):
        shutil.rmtree(pair.folder / catalogs, ignore_errors=True)
    for catalog in (pair.folder / "state-www4").glob("catalog.db*"):
        catalog.unlink()
    waits = pair.folder / "waits"
    waits.write_text(f"#!/bin/sh\ncd {pair.folder}/nas/drbdbackup/raid\nuntil {condition}; do sleep 0.1; done\n")
    waits.chmod(0o755)
    pair.extra = f'[target.late.hook.late]\ntimeout = 60\nbefore = ["{waits}"]\n'


def test_a_target_that_is_opened_late_counts_for_the_sequence_too(pair: PlayedPair) -> None:
    opens_late(pair, "ls .partial-*/whole 2>/dev/null")
    pair.extra += '[limits]\nprobe = "60s"\n'
    pair.backs_up()
    assert {target: pair.copies(target=target)[0]["sequence"] for target in ("nas", "late")} == {"nas": 10, "late": 10}


def test_a_target_that_is_opened_too_late_holds_nobody_up(pair: PlayedPair) -> None:
    opens_late(pair, "[ $(ls | grep -c ^2) -gt 1 ]")
    pair.extra += '[limits]\nprobe = "1s"\n'
    pair.backs_up()
    new = pair.copies(target="nas")[0]
    assert new["sequence"] == 2
    assert pair.copies(target="late")[0]["snapshot"] == new["snapshot"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts want root")
def test_what_a_crash_left_loses_its_name_before_it_is_removed(pair: PlayedPair) -> None:
    """Its writer may only be frozen: when it wakes up, it must not give a name to what is half removed."""
    with disk(pair.folder / "media") as medium:
        pair.targets["nas"] = f'kind = "nas"\npath = "{medium}"'
        pair.backs_up()
        folder = medium / "drbdbackup/raid"
        (folder / ".partial-20260101T000000Z-www4/data").mkdir(parents=True)
        (folder / ".partial-20260101T000000Z-www4/data/stays").touch()
        tool("chattr", "+i", folder / ".partial-20260101T000000Z-www4/data/stays")
        assert pair.run("www4", "run").returncode == 3
        left = [name for name in os.listdir(folder) if name.startswith(".")]
        assert left == [".removing-.partial-20260101T000000Z-www4"]
        tool("chattr", "-i", folder / left[0] / "data/stays")
        pair.backs_up()
        assert [name for name in os.listdir(folder) if name.startswith(".")] == []
