"""Lineages: over any life of a pair a real split brain is seen, none is made up, and the order of copies is nothing."""

from __future__ import annotations

import random

from hypothesis import event, given
from hypothesis import strategies as st

from drbdbackup.lineage import Lineages, lineages
from drbdbackup.model.generation import Generation, from_document, parse
from tests.played_drbd import BEGAN, NODES, PlayedDrbd, a_copy

DEEDS = ("write", "cut", "promote", "demote", "connect", "discard", "back_up", "close_roads", "open_roads")
LIVES = st.lists(st.tuples(st.sampled_from(DEEDS), st.sampled_from(NODES)), max_size=60)
# A pair that mostly goes on: failovers, a link that comes and goes, backups in between.
DAYS = st.lists(
    st.sampled_from([
        ("write", "back_up"), ("cut", "write"), ("cut", "write", "back_up"), ("connect",), ("failover",), ("back_up",),
        ("alone",), ("discard-www4",), ("discard-www5",), ("write",), ("close_roads",), ("open_roads",),
    ]),
    max_size=40,
)  # fmt: skip
UUIDS = st.sampled_from([f"{number:016X}" for number in range(16, 40, 2)])
GENERATIONS = st.builds(Generation, UUIDS, st.one_of(st.just(""), UUIDS), st.lists(UUIDS, max_size=3).map(tuple))

KEYS = st.sampled_from(["current", "bitmap", "history", "other"])
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text() | UUIDS, lambda some: st.lists(some) | st.dictionaries(KEYS, some)
)


def lived(deeds: list[tuple[str, str]]) -> PlayedDrbd:
    pair = PlayedDrbd()
    for deed, node in deeds:
        done = getattr(pair, deed)(node)
        check(pair, backed_up=deed == "back_up" and done is not None)
    return pair


def in_days(days: list[tuple[str, ...]]) -> PlayedDrbd:
    pair = PlayedDrbd()
    for deed in (deed for day in days for deed in day):
        primaries = [name for name in NODES if pair.nodes[name].primary]
        match deed:
            case "failover" if len(primaries) == 1:
                pair.demote(primaries[0])
                pair.promote(pair.peer(primaries[0]).name)
            case "alone":
                pair.cut()
                for name in NODES:
                    pair.promote(name)
            case "discard-www4" | "discard-www5":
                pair.discard(deed.removeprefix("discard-"))
            case "connect" | "cut" | "close_roads" | "open_roads":
                getattr(pair, deed)("")
            case "write" | "back_up":
                for name in primaries:
                    getattr(pair, deed)(name)
                    check(pair, backed_up=deed == "back_up")
    return pair


def rivals(found: Lineages) -> set[str]:
    return {line.generation for line in found.rivals}


def check(pair: PlayedDrbd, *, backed_up: bool) -> None:
    """What holds after each deed."""
    found = lineages(pair.copies)
    own = {node.generation.current for node in pair.nodes.values()}
    copied = {copy.generation.current for copy in pair.copies if copy.generation}
    if pair.diverged and own <= copied:
        event("split brain")
        assert rivals(found) == own
    elif not pair.ever_split:
        assert not found.rivals
        assert not found.discarded
    elif backed_up and not pair.diverged:
        event("resolved")
        assert not found.rivals
    if backed_up and not pair.diverged:
        living = pair.nodes["www4"].data if pair.connected else max((n.data for n in pair.nodes.values()), key=len)
        for copy in pair.copies:
            if found.is_discarded(copy):
                event("discarded")
                wrote = pair.data_of[copy.snapshot]
                assert living[: len(wrote)] != wrote


@given(LIVES)
def test_a_split_brain_is_seen_and_none_is_made_up(deeds: list[tuple[str, str]]) -> None:
    lived(deeds)


@given(DAYS)
def test_the_same_through_failovers_and_links_that_come_and_go(days: list[tuple[str, ...]]) -> None:
    in_days(days)


@given(DAYS, st.randoms())
def test_what_retention_has_pruned_makes_no_split_brain_up(days: list[tuple[str, ...]], dice: random.Random) -> None:
    pair = in_days(days)
    if not any(node.primary for node in pair.nodes.values()):
        pair.promote("www5")
    made = [pair.back_up(name) for name in NODES]
    if not pair.diverged:
        kept = [copy for copy in pair.copies if copy in made or dice.random() < 0.4]
        assert not lineages(kept).rivals


@given(DAYS, st.randoms())
def test_the_order_of_the_copies_counts_for_nothing(days: list[tuple[str, ...]], dice: random.Random) -> None:
    copies = in_days(days).copies
    shuffled = dice.sample(copies, len(copies))
    assert lineages(shuffled) == lineages(copies)


@given(DAYS)
def test_a_copy_told_twice_changes_nothing(days: list[tuple[str, ...]]) -> None:
    copies = in_days(days).copies
    assert lineages([*copies, *copies]) == lineages(copies)


@given(DAYS)
def test_more_copies_never_bring_a_resolved_split_brain_back(days: list[tuple[str, ...]]) -> None:
    pair = in_days(days)
    seen: set[str] = set()
    gone: set[str] = set()
    for end in range(len(pair.copies) + 1):
        now = rivals(lineages(pair.copies[:end]))
        gone |= seen - now
        seen |= now
        assert not now & gone


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from(NODES), GENERATIONS), max_size=12))
def test_no_generations_whatever_make_it_fail(made: list[tuple[int, str, Generation]]) -> None:
    copies = [a_copy(number, node, BEGAN, told, f"m-{at}") for at, (number, node, told) in enumerate(made)]
    found = lineages(copies)
    assert len(found.rivals) != 1
    assert not rivals(found) & {line.generation for line in found.discarded}
    assert all(line.members and line.nodes for line in (*found.rivals, *found.discarded))


@given(st.text())
def test_parsing_is_total(text: str) -> None:
    parse(text)


@given(GENERATIONS)
def test_a_generation_survives_the_catalog(told: Generation) -> None:
    assert from_document(told.as_document()) == told


@given(DOCUMENTS)
def test_no_document_makes_reading_it_fail(document: object) -> None:
    from_document(document)
