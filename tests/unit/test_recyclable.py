"""Which snapshot may become the next one: what goes anyway, and nothing that is needed if the next one fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from drbdbackup.catalog import bodies, store
from drbdbackup.config.values import Config, ResourceConfig, Retention, TargetConfig
from drbdbackup.lineage import Lineage, Lineages
from drbdbackup.model.backup import Copy
from drbdbackup.model.generation import Generation
from drbdbackup.pipeline.backup.run_facts import RunFacts, recyclable

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


def copy(sequence: int, **fields: object) -> Copy:
    made = NOW - timedelta(days=9 - sequence)
    known = Copy(
        snapshot=f"2026110{sequence}T043000Z-www4", resource="raid", sequence=sequence, node="www4", target="nas",
        kind="nas", medium="m", location="", holder="", path="/", started_at=made, finished_at=made, files=1, bytes=1,
    )  # fmt: skip
    return replace(known, **fields)  # type: ignore[arg-type]


def week(*numbers: int, **fields: object) -> list[Copy]:
    return [copy(number, **fields) for number in numbers]


def found(
    known: list[Copy], daily: int, minimum: int, lines: Lineages | None = None, now: datetime = NOW
) -> list[int]:
    """The sequences of those that may become number 9."""
    policy = Retention(daily=daily, weekly=0, monthly=0, minimum=minimum)
    return [int(name[7]) for name in recyclable(known, copy(9), policy, now, lines or Lineages())]


def test_it_is_what_goes_once_the_new_one_is_there_the_newest_first() -> None:
    assert found(week(4, 5, 6, 7, 8), 5, 1) == [4]
    assert found(week(1, 2, 3, 6, 7, 8), 3, 1) == [6, 3, 2, 1]
    assert found(week(5, 6, 7, 8), 5, 1) == []


def test_the_floor_is_counted_without_the_new_one() -> None:
    assert found(week(7, 8), 0, 2) == []
    assert found(week(6, 7, 8), 0, 2) == [6]


def test_it_is_not_the_newest_verified_one_or_a_damaged_one() -> None:
    assert found([copy(4, verified_at=NOW), *week(5, 6, 7, 8)], 4, 1) == [5]
    assert found([copy(4, damaged_at=NOW), *week(5, 6, 7, 8)], 5, 1) == []


def test_it_is_nothing_that_would_stay_if_the_new_one_lacked_files() -> None:
    """The other node's clock is a day ahead. The new one takes the place of the one of its day only if it is whole."""
    today, ahead = copy(7, started_at=NOW - timedelta(hours=2)), copy(8, started_at=NOW + timedelta(days=1))
    later = NOW + timedelta(days=1)
    assert found([copy(6, started_at=NOW - timedelta(hours=3)), today, ahead], 2, 1, now=later) == [6]


def test_it_is_none_of_another_lineage() -> None:
    known = week(4, 5, 6, 7, 8)
    line = Lineage("A", ("www4",), True, frozenset({("m", known[0].snapshot)}))
    assert found(known, 4, 1) == [5, 4]
    assert found(known, 4, 1, Lineages(discarded=(line,))) == [5]
    rivals = (replace(line, discarded=False), Lineage("B", ("www5",), False))
    assert found(known, 4, 1, Lineages(rivals=rivals)) == []


NAS = TargetConfig(name="nas", kind="nas", retention=Retention(daily=2, weekly=0, monthly=0, minimum=1))


def facts(folder: Path, copies: list[Copy], *, adopted: tuple[int, ...] = ()) -> RunFacts:
    config = Config(
        file="", node="www4", nodes=("www4", "www5"), resources=(ResourceConfig(name="raid", source="/srv"),),
        targets=(NAS,), state_dir=str(folder),
    )  # fmt: skip
    for one in copies:
        fact = bodies.adopted if one.sequence in adopted else bodies.copied
        store.record(config.state_dir, one.node, [fact(one.node, NOW, one)])
    ledger = RunFacts(config, config.resources[0])
    ledger.has_read("m", copies)
    return ledger


def test_it_is_neither_the_base_nor_one_that_nobody_has_signed(tmp_path: Path) -> None:
    known = week(5, 6, 7, 8)
    for name in ("signed", "unsigned"):
        (tmp_path / name).mkdir(mode=0o700)
    assert facts(tmp_path / "signed", known).to_recycle(copy(9), NAS, known[3].snapshot) == known[2].snapshot
    assert facts(tmp_path / "signed", known).to_recycle(copy(9), NAS, known[2].snapshot) == known[1].snapshot
    unsigned = facts(tmp_path / "unsigned", known, adopted=(7,))
    assert unsigned.to_recycle(copy(9), NAS, known[3].snapshot) == known[1].snapshot


def test_it_is_none_if_the_new_one_makes_a_split_brain_known(tmp_path: Path) -> None:
    """Both nodes went on from the same generation, and this is the first copy of this node's."""
    tmp_path.chmod(0o700)
    before, one, another = "00000000000000A0", "00000000000000B0", "00000000000000C0"
    other = Generation(current=another, bitmap=before)
    known = [*week(5, 6, 7), copy(8, node="www5", snapshot="20261108T043000Z-www5", generation=other)]
    ledger = facts(tmp_path, known)
    assert ledger.to_recycle(copy(9), NAS, known[3].snapshot) != ""
    mine = copy(9, generation=Generation(current=one, bitmap=before))
    assert ledger.to_recycle(mine, NAS, known[3].snapshot) == ""
