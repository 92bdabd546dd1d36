"""A snapshot that retention drops anyway becomes the next one, and no other snapshot has changed then."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.played_media import disk_image, mounted
from tests.played_pair import PlayedPair, differences
from tests.settled import settled_volume

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a file system in an image wants root")
KEEPS = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = {}"


def furnish(volume: Path) -> None:
    for number in range(6):
        (volume / f"folder-{number % 2}").mkdir(exist_ok=True)
        (volume / f"folder-{number % 2}/file-{number}").write_text(f"content {number}")
    os.link(volume / "folder-0/file-0", volume / "folder-1/again")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """With three snapshots, of which one has to stay from now on."""
    played = PlayedPair(tmp_path, extra=KEEPS.format(3))
    settled_volume(played.volume, furnish)
    for _ in range(3):
        played.backs_up()
    return played


def result(pair: PlayedPair, *args: str, status: int = 0) -> dict[str, Any]:
    return pair.json("www4", "run", *args, status=status)["runs"][0]["targets"][0]


def test_the_oldest_that_is_needed_no_more_becomes_the_next(pair: PlayedPair) -> None:
    newest, middle, oldest = (Path(copy["path"]) for copy in pair.copies())
    inode = (middle / "folder-0").stat().st_ino
    pair.extra = KEEPS.format(1)
    assert pair.json("www4", "prune", "--dry-run")["targets"][0]["recycled_next"] is None  # prune itself would take it
    foreseen = result(pair, "--dry-run")["recycled"]
    os.setxattr(pair.volume / "folder-0", "user.since", b"nothing else of it is another")
    made = result(pair)
    assert made["recycled"] == foreseen == middle.parent.name
    assert sorted(made["pruned"]) == sorted(path.parent.name for path in (newest, oldest))
    tree = Path(made["copy"]["path"])
    assert (tree / "folder-0").stat().st_ino == inode
    assert differences(pair.volume, tree) == []
    assert pair.json("www4", "verify")["copies"][0]["problem_count"] == 0
    journal = (pair.folder / "state-www4/journal").read_text().splitlines()
    assert [json.loads(line)["event"] for line in journal].count("recycled") == 1


def test_the_other_nodes_can_know_before_its_name_goes(pair: PlayedPair) -> None:
    pair.extra = KEEPS.format(2)
    log = pair.folder / "renames"
    pair.under = ("strace", "-f", "-y", "-qq", "-e", "trace=rename,renameat,renameat2", "-o", str(log))
    recycled = result(pair)["recycled"]
    renames = [line for line in log.read_text().splitlines() if "rename" in line]
    [goes] = [at for at, line in enumerate(renames) if f'/raid/{recycled}", ' in line]
    told = [at for at, line in enumerate(renames) if "/nas/drbdbackup/catalog>" in line and '"www4.db"' in line]
    assert told[0] < goes < told[-1], "and once more at the end"


def test_what_changed_comes_anew_and_no_other_snapshot_changes(pair: PlayedPair) -> None:
    pair.extra = KEEPS.format(2)
    newest = pair.newest("nas")
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in newest.rglob("*") if path.is_file()}
    (pair.volume / "folder-0/file-2").write_text("another content")
    (pair.volume / "folder-1/again").write_text("the same inode has another content")
    (pair.volume / "folder-1/file-1").unlink()
    made = result(pair)
    assert made["recycled"]
    assert differences(pair.volume, Path(made["copy"]["path"])) == []
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in before} == before


def test_what_a_share_did_to_the_old_tree_is_not_taken_over(pair: PlayedPair) -> None:
    pair.extra = KEEPS.format(2)
    newest, oldest = pair.newest("nas"), Path(pair.copies()[-1]["path"])
    (oldest / "folder-0/file-2").unlink()
    (oldest / "folder-0/file-2").write_text("not what it was")
    (oldest / "folder-0/@eaDir").mkdir()
    (oldest / "folder-1").rename(oldest / "moved")
    (oldest / "folder-1").symlink_to(newest / "folder-1")
    (oldest.parent / "notes").write_text("not ours")
    made = result(pair)
    tree = Path(made["copy"]["path"])
    assert made["recycled"] == oldest.parent.name
    assert differences(pair.volume, tree) == differences(pair.volume, newest) == []
    assert (tree / "folder-0/file-2").stat().st_ino == (newest / "folder-0/file-2").stat().st_ino
    assert sorted(path.name for path in tree.parent.iterdir()) == ["data", "manifest.gz", "snapshot.json"]


def test_it_can_be_turned_off_and_a_safety_copy_takes_none(pair: PlayedPair) -> None:
    pair.extra = KEEPS.format(2)
    pair.targets["nas"] += "\nrecycle = false"
    assert result(pair, "--dry-run")["recycled"] is None
    made = result(pair)
    assert (made["recycled"], len(made["pruned"])) == (None, 2)


def test_a_tree_with_something_that_cannot_be_removed_is_not_used(tmp_path: Path) -> None:
    disk_image(tmp_path / "nas.img", "ext4")
    pair = PlayedPair(tmp_path, extra=KEEPS.format(3))
    settled_volume(pair.volume, furnish)
    with mounted(tmp_path / "nas.img", tmp_path / "nas", "loop"):
        for _ in range(3):
            pair.backs_up()
        oldest = Path(pair.copies()[-1]["path"])
        stubborn = oldest / "folder-0/stubborn"
        stubborn.touch()
        subprocess.run(["chattr", "+i", stubborn], check=True)
        pair.extra = KEEPS.format(2)
        made = result(pair, status=3)
        assert made["error"]["error"] == "TargetError"  # as if it had been pruned: what is left of it cannot be removed
        assert differences(pair.volume, Path(made["copy"]["path"])) == []
        [left] = oldest.parents[1].glob(".removing-*/data/folder-0/stubborn")
        subprocess.run(["chattr", "-i", left], check=True)
        pair.backs_up()
        assert list(oldest.parents[1].glob(".*")) == []
