"""A source that is suddenly much smaller is copied and held back, as long as it stays so, on every target."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_media import disk_image, loop_devices, mounted, nothing_is_left, wait_for
from tests.played_pair import PlayedPair, differences
from tests.settled import settled_volume, wait_until_settled


def twenty_files(volume: Path) -> None:
    for number in range(20):
        (volume / f"file-{number}").write_text(f"{number}" * 5000)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """A share and a disk, each with one copy of twenty files; one of them is left, and one has come."""
    disk_image(tmp_path / "disk.img")
    played = PlayedPair(tmp_path)
    played.add_disk("disk", str(tmp_path / "disk.img"))
    played.extra = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1"
    settled_volume(played.volume, twenty_files)
    played.backs_up()
    for number in range(1, 20):
        (played.volume / f"file-{number}").unlink()
    (played.volume / "new").write_text("new" * 2000)
    yield played
    assert nothing_is_left(tmp_path)


def is_held(pair: PlayedPair, *args: str) -> str:
    ended = pair.run("www4", "run", *args)
    assert ended.returncode == 3, ended.stderr
    assert "suspiciously small: it has 2 files, the last complete copy has 20" in ended.stderr
    assert "`drbdbackup run --accept-shrink`" in ended.stderr
    return ended.stderr


def hidden(pair: PlayedPair, target: str) -> list[str]:
    """What of unfinished copies lies on a target."""
    if target == "nas":
        return [name for name in os.listdir(pair.folder / "nas/drbdbackup/raid") if name.startswith(".")]
    wait_for(lambda: not loop_devices(pair.folder), "the run's loop device to go")
    with mounted(pair.folder / "disk.img", pair.folder / "look", "loop", "ro") as at:
        return [name for name in os.listdir(at / "drbdbackup/raid") if name.startswith(".")]


def test_it_is_copied_and_not_made_latest_and_nothing_is_pruned(pair: PlayedPair) -> None:
    before = pair.copies()
    latest = os.readlink(pair.folder / "nas/drbdbackup/raid/latest")
    is_held(pair)
    assert [copy["snapshot"] for copy in pair.copies()] == [copy["snapshot"] for copy in before]
    assert os.readlink(pair.folder / "nas/drbdbackup/raid/latest") == latest
    [held] = hidden(pair, "nas")
    assert differences(pair.volume, pair.folder / "nas/drbdbackup/raid" / held / "data") == []
    assert len(hidden(pair, "disk")) == 1
    [raid] = pair.json("www4", "status")["resources"]
    assert raid["last_run"]["outcome"] == "held"
    assert held in raid["last_run"]["targets"]["nas"]["message"]


def test_a_dry_run_says_that_it_would_be_held_back(pair: PlayedPair) -> None:
    [run] = pair.json("www4", "run", "--dry-run")["runs"]
    said = "it would be held back: it has 2 files, the last complete copy has 20"
    assert [target["notes"] for target in run["targets"]] == [[said], [said]]


def test_the_following_nights_say_so_again_and_leave_no_pile(pair: PlayedPair) -> None:
    for _ in range(3):
        is_held(pair)
        assert [len(hidden(pair, target)) for target in ("nas", "disk")] == [1, 1]
    assert len(pair.copies()) == 2


def test_the_looks_of_cron_do_not_try_it_again_for_the_same_due_time(pair: PlayedPair) -> None:
    is_held(pair)
    ended = pair.run("www4", "run", "--if-due")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_when_it_is_accepted_the_held_copy_is_linked_from_and_gone(pair: PlayedPair) -> None:
    wait_until_settled(pair.volume)  # else it shares nothing of what is new
    is_held(pair)
    [run] = pair.json("www4", "run", "--accept-shrink")["runs"]
    assert [target["counts"]["copied_bytes"] for target in run["targets"]] == [0, 0]
    assert {copy["target"]: copy["files"] for copy in pair.copies()} == {"nas": 2, "disk": 2}
    assert hidden(pair, "nas") == hidden(pair, "disk") == []
    assert differences(pair.volume, pair.newest("nas")) == []
    assert pair.run("www4", "verify").returncode == 0
    pair.backs_up()


def test_accepted_on_one_target_it_is_accepted_for_the_other(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--accept-shrink", "--target", "nas")
    pair.backs_up()


def test_a_source_that_comes_back_is_backed_up_as_ever(pair: PlayedPair) -> None:
    is_held(pair)
    for number in range(1, 20):
        (pair.volume / f"file-{number}").write_text(f"{number}" * 5000)
    pair.backs_up()
    assert hidden(pair, "nas") == hidden(pair, "disk") == []


@pytest.mark.parametrize(("share", "status"), [("0", 0), ("0.03", 0), ("0.5", 3), ("0.99", 3)])
def test_how_small_is_suspicious_is_for_the_admin_to_say(pair: PlayedPair, share: str, status: int) -> None:
    pair.extra += f"\n[limits]\nshrink = {share}"
    assert pair.run("www4", "run", "--target", "nas").returncode == status


def test_fewer_bytes_are_told_in_units(pair: PlayedPair) -> None:
    for number in range(20):
        (pair.volume / f"file-{number}").write_text("x")
    ended = pair.run("www4", "run", "--target", "nas")
    assert ended.returncode == 3
    assert "it has 5.9 KiB, the last complete copy has 146 KiB" in ended.stderr


def test_a_file_of_holes_neither_holds_the_nights_after_it_nor_hides_what_is_lost(pair: PlayedPair) -> None:
    with (pair.volume / "holes").open("wb") as file:
        file.truncate(60 << 30)
    pair.backs_up("www4", "--accept-shrink", "--target", "nas")
    assert (pair.newest("nas") / "holes").stat().st_size == 60 << 30
    (pair.volume / "holes").unlink()
    pair.backs_up("www4", "--target", "nas")
    with (pair.volume / "holes").open("wb") as file:
        file.truncate(1 << 40)
    (pair.volume / "new").write_text("x")
    ended = pair.run("www4", "run", "--dry-run", "--target", "nas", "--json")
    assert "it would be held back" in json.loads(ended.stdout)["runs"][0]["targets"][0]["notes"][0]
    for number in range(5):
        with (pair.volume / f"image-{number}").open("wb") as file:
            file.truncate(15 << 40)
    ended = pair.run("www4", "run", "--dry-run", "--target", "nas", "--json")
    [foretold] = json.loads(ended.stdout)["runs"][0]["targets"]
    assert [one["path"] for one in foretold["problems"]] == ["image-4"], "an owner has 64 TiB of holes, and no more"
