"""Whatever is cut short, and whichever node goes on: in the end every part of every copy was read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as some
from msgspec.structs import replace

from drbdbackup.catalog.scrubs import Scrub, next_turn, read_since, scrub_from, scrubbed

START = datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
COPIES = ("20261101T043000Z-www4", "20261102T043000Z-www4", "20261103T043000Z-www5")


def night(known: list[Scrub], of: int, reads: int) -> Scrub:
    """One night in which `reads` copies are read before it ends."""
    turn = next_turn(newest_first(known), "m", of)
    wanted = [name for name in COPIES if name not in turn.done]
    read, missed = wanted[:reads], wanted[reads:]
    at = START + timedelta(days=len(known))
    return Scrub(
        medium="m",
        resource="raid",
        turn=turn.number,
        part=turn.part,
        of=of,
        at=at,
        snapshots=tuple(read),
        left=(missed[0], 7) if missed else None,
    )


def newest_first(known: list[Scrub]) -> list[Scrub]:
    return sorted(known, key=lambda one: (one.turn, one.at), reverse=True)


@given(of=some.integers(1, 8), reads=some.lists(some.integers(0, 3), max_size=30))
def test_in_the_end_every_part_of_every_copy_was_read(of, reads):
    known: list[Scrub] = []
    for count in [*reads, *[3] * (of + 1)]:
        known.append(night(known, of, count))
    since = read_since(newest_first(known))
    assert {snapshot for _, snapshot in since} == set(COPIES)
    assert all(at <= known[-1].at for at in since.values())


def test_a_round_without_interruption_takes_as_many_nights_as_there_are_parts():
    known: list[Scrub] = []
    for _ in range(4):
        assert read_since(newest_first(known)) == {}
        known.append(night(known, 4, 3))
    assert [one.part for one in known] == [0, 1, 2, 3]
    assert read_since(newest_first(known)) == {("m", name): START for name in COPIES}


def test_what_was_left_goes_on_where_it_stopped():
    first = night([], 2, 1)
    turn = next_turn([first], "m", 2)
    assert (turn.part, turn.done, turn.left) == (0, {COPIES[0]}, (COPIES[1], 7))


def test_another_share_begins_a_new_round_and_keeps_what_is_known():
    known = [night([], 1, 3)]
    assert next_turn(known, "m", 5).part == 0
    known.append(night(known, 5, 3))
    assert set(read_since(newest_first(known))) == {("m", name) for name in COPIES}


def test_each_medium_has_its_own_round():
    other = replace(night([], 4, 3), medium="other")
    assert next_turn([other], "m", 4).number == 1


def test_a_fact_comes_back_as_the_scrub_that_it_was():
    told = night([], 4, 1)
    assert scrub_from(scrubbed("www5", told)) == replace(told, node="www5")


def test_a_fact_that_makes_no_sense_is_passed_over():
    fact = scrubbed("www5", night([], 4, 1))
    for wrong in ({"part": 4}, {"of": 0}, {"of": True}, {"turn": "1"}, {"snapshots": "all"}, {"files": -1}):
        assert scrub_from(replace(fact, body={**fact.body, **wrong})) is None
    assert scrub_from(replace(fact, body={**fact.body, "left": ["x"]})).left is None
