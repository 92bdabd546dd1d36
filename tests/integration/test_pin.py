"""`pin`, `unpin` and `run --note`: what is pinned by either node is pruned by neither, and everybody sees why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import pins, store, view
from drbdbackup.catalog.bodies import copied
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


def test_what_one_node_pins_no_node_prunes_until_it_unpins_it(pair: PlayedPair) -> None:
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
    assert (told["pinned_at"], told["note"], told["held_by"]) == (None, "before the upgrade", ["www5"])
    pair.backs_up("www5")
    assert (old, "nas") in named(pair, "www5"), "a compromised node would take back all pins"
    assert [copy["pinned_at"] for copy in pair.copies("www4") if copy["snapshot"] == old] == [None, None]
    assert pair.json("www5", "unpin", old)["held_by"] == []
    pair.backs_up("www5")
    assert old not in [name for name, _ in named(pair, "www5")]
    assert not (pair.folder / "nas/drbdbackup/raid" / old).exists()


def test_another_node_pins_a_bounded_number(pair: PlayedPair) -> None:
    """Else a compromised one would fill every disk. What this node has pinned counts, whatever others say."""
    pair.backs_up("www4")
    pair.backs_up("www5")
    state = str(pair.folder / "state-www5")
    template = view.copies(state, "www5", "raid", ["nas"])[0]
    named = [f"20261001T{number:06}Z-www5" for number in range(pins.MOST_PINNED + 5)]
    now = datetime.now(UTC)
    many = [replace(template, snapshot=name, node="www5", sequence=number) for number, name in enumerate(named, 1)]
    store.record(state, "www5", [copied("www5", now, copy) for copy in many])
    store.record(state, "www5", [pins.pinned("www5", now, "raid", name, "") for name in named])
    assert pair.run("www5", "sync").returncode == 0
    assert pair.json("www4", "pin", named[-1])["pinned_at"]
    pinned = {copy["snapshot"] for copy in pair.copies("www4") if copy["pinned_at"]}
    assert pinned == {*named[:pins.MOST_PINNED], named[-1]}
    assert pair.run("www5", "pin", template.snapshot).returncode == 2, "no more of its own would count elsewhere"
    assert pair.json("www5", "unpin", named[-1])["held_by"] == ["www4"]
    assert pins.labels(state, "www5", "raid")[named[-1]].pins == ()


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
