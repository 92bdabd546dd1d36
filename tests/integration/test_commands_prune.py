"""`prune`: what goes, why, and what it must know before it judges."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

MANY = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 3"
FEW = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 1"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """Three copies, which one rule keeps no longer."""
    pair = PlayedPair(tmp_path, extra=MANY)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    for _ in range(3):
        pair.backs_up()
    pair.extra = FEW
    return pair


def test_it_says_why_each_copy_stays_or_goes(pair: PlayedPair) -> None:
    ended = pair.run("www4", "prune", "--dry-run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == "raid on nas: 1 to keep, 2 to drop"
    assert "newest" in ended.stdout
    assert "no rule keeps it" in ended.stdout
    assert len(pair.copies()) == 3
    [told] = pair.json("www4", "prune")["targets"]
    assert len(told["removed"]) == 2
    assert [copy["snapshot"] for copy in pair.copies()] == [one["snapshot"] for one in told["copies"] if one["keep"]]
    folder = pair.folder / "nas" / "drbdbackup" / "raid"
    assert sorted(path.name for path in folder.iterdir()) == sorted([pair.copies()[0]["snapshot"], "latest"])


def test_it_leaves_a_target_alone_that_is_not_there(pair: PlayedPair) -> None:
    (pair.folder / "nas").rename(pair.folder / "gone")
    ended = pair.run("www4", "prune")
    assert ended.returncode == 1
    assert ended.stderr.startswith("drbdbackup: nas: ")
    assert len(pair.copies()) == 3


@pytest.mark.parametrize("before", [["--dry-run"], []])
def test_a_copy_that_only_the_other_node_knows_to_be_verified_stays(pair: PlayedPair, before: list[str]) -> None:
    oldest = pair.copies("www5")[-1]["snapshot"]
    assert pair.run("www5", "verify", oldest).returncode == 0
    assert pair.run("www5", "sync").returncode == 0
    [told] = pair.json("www4", "prune", *before)["targets"]
    assert [one["reason"] for one in told["copies"] if one["snapshot"] == oldest] == ["last verified"]
    assert oldest in [copy["snapshot"] for copy in pair.copies()]
