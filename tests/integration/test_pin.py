"""`pin`, `unpin` and `run --note`: what is pinned by either node is pruned by neither, and everybody sees why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

ONE = "[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path, extra=ONE)
    pair.add_share("second")
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def named(pair: PlayedPair, node: str = "www4") -> list[tuple[str, str]]:
    return [(copy["snapshot"], copy["target"]) for copy in pair.copies(node)]


def test_what_one_node_pins_no_node_prunes_until_one_unpins_it(pair: PlayedPair) -> None:
    pair.backs_up("www4", "--note", "before the upgrade")
    old = pair.copies()[0]["snapshot"]
    assert {copy["note"] for copy in pair.copies("www5")} == {"before the upgrade"}
    told = pair.json("www5", "pin", old[:-3], "--note", "the auditor wants it")
    assert (told["snapshot"], told["note"], told["roads"]) == (old, "the auditor wants it", ["nas", "second"])
    assert told["pinned_at"]

    pair.backs_up()
    pair.backs_up()
    assert [(name, target) for name, target in named(pair) if name == old] == [(old, "nas"), (old, "second")]
    assert len(named(pair)) == 4, "the one between them has gone"
    for prune in (["prune", "--dry-run"], ["prune"]):
        judged = pair.json("www4", *prune)["targets"][0]["copies"]
        assert [one["reason"] for one in judged if one["snapshot"] == old] == ["pinned"]
    copy = pair.copies("www4")[-1]
    assert (copy["note"], copy["pinned_at"]) == ("the auditor wants it", told["pinned_at"])
    assert "pinned (the auditor wants it)" in pair.run("www4", "latest").stdout

    pair.roles("www5")
    pair.backs_up("www5")
    assert (old, "nas") in named(pair, "www5")
    told = pair.json("www4", "unpin", old)
    assert (told["pinned_at"], told["note"]) == (None, "before the upgrade")
    pair.backs_up("www5")
    assert old not in [name for name, _ in named(pair, "www5")]
    assert not (pair.folder / "nas/drbdbackup/raid" / old).exists()


def test_a_failed_run_leaves_no_note_and_a_dry_run_neither(pair: PlayedPair) -> None:
    pair.run("www4", "run", "--dry-run", "--note", "nothing")
    pair.backs_up()
    assert {copy["note"] for copy in pair.copies()} == {""}


@pytest.mark.parametrize(("args", "status"), [
    (["pin", "20200101T000000Z-www4"], 6), (["unpin", "20200101T000000Z-www4"], 6), (["unpin", "2"], 6),
    (["pin", "2", "--note", "x" * 201], 2), (["run", "--note", "a\nb"], 2),
])  # fmt: skip
def test_what_is_not_there_or_no_note_is_refused(pair: PlayedPair, args: list[str], status: int) -> None:
    if status == 6:
        pair.backs_up()
    before = (pair.folder / "state-www4/catalog.db").exists()
    assert pair.run("www4", *args).returncode == (6 if not before and args[0] == "pin" else status)
