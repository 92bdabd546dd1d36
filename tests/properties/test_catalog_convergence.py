from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drbdbackup.catalog import merge, publish, view
from drbdbackup.catalog.bodies import copied, expected, run_from
from drbdbackup.catalog.facts import as_row, fact, from_row, identity
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso
from drbdbackup.model.medium import KnownMedium
from tests.properties.played_nodes import ANYBODY, NIGHT, PlayedNode, a_copy, a_fact, a_folder

NAMES = ("www4", "www5", "mail1", "mail2")

said = st.tuples(
    st.sampled_from(
        ["copy", "copy", "pruned", "found", "damaged", "verified", "sampled", "pinned", "unpinned", "noted"]
    ), st.integers(1, 3),
    st.sampled_from(NAMES[:2]), st.sampled_from(["nas", "disk"]), st.integers(0, 4),
)  # fmt: skip
who = st.integers(0, 3)
events = st.lists(
    st.one_of(
        st.tuples(st.just("record"), who, st.lists(said, min_size=1, max_size=4)),
        st.tuples(st.just("publish"), who),
        st.tuples(st.just("carry"), who, who, st.integers(0, 9)),
        st.tuples(st.just("forget"), who),
    ),
    max_size=14,
)


def play(nodes, event):
    match event:
        case ("record", one, facts):
            node = nodes[one % len(nodes)]
            node.record(*(a_fact(node.name, *what) for what in facts))
        case ("publish", one):
            nodes[one % len(nodes)].publish()
        case ("carry", one, other, which):  # an old file, or the same again, as roads do
            old = nodes[one % len(nodes)].published
            if old:
                assert not nodes[other % len(nodes)].hear(old[which % len(old)]).refused


def meet(nodes):
    for _ in range(2):
        for file in [node.publish() for node in nodes]:
            for node in nodes:
                assert node.hear(file).refused == ""


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), events)
def test_nodes_that_met_know_the_same_whatever_was_lost_repeated_or_late_before(number, story):
    with a_folder() as folder:
        nodes = [PlayedNode(folder, name) for name in NAMES[:number]]
        for event in story:
            play(nodes, event)
        everything = set().union(*(node.ids() for node in nodes))
        meet(nodes)
        for node in nodes:
            assert node.ids() == everything
            assert node.copies() == nodes[0].copies()
            assert view.highest_sequence(node.state, "raid") == view.highest_sequence(nodes[0].state, "raid")
            assert set(view.seen(node.state)) == {other.name for other in nodes}


@settings(max_examples=25, deadline=None)
@given(st.lists(said, max_size=12), st.randoms())
def test_the_answer_does_not_depend_on_the_order_in_which_facts_came(what, random):
    with a_folder() as folder:
        first, second = PlayedNode(f"{folder}/1", "www4"), PlayedNode(f"{folder}/2", "www4")
        facts = [a_fact("www4", *one) for one in what]
        first.record(*facts)
        for one in random.sample(facts, len(facts)):
            second.record(one)
        assert first.copies() == second.copies()
        assert first.ids() == second.ids()


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
    | st.sampled_from(["2026-11-23T04:30:00Z", "20241102T043000Z-www4", "nas", "raid", "/x", "complete", "/../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KEYS = (
    "snapshot", "resource", "sequence", "node", "target", "kind", "medium", "location", "holder", "path", "started_at",
    "finished_at", "files", "bytes", "problems", "share", "outcome", "because", "targets", "due_at", "reason", "after",
)  # fmt: skip
KINDS = ("copy", "verified", "damaged", "pruned", "found", "run", "target")
bodies = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), json_value, max_size=22)
SUBJECT = "nas/raid/20241102T043000Z-www4"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), bodies), max_size=6))
def test_whatever_a_body_holds_the_views_answer(what):
    with a_folder() as folder:
        node = PlayedNode(folder, "www4")
        node.record(*(fact("www4", NIGHT, kind, "raid", SUBJECT, body) for kind, body in what))
        assert len(node.copies()) <= 1
        view.runs(node.state, "raid")
        view.expected_target(node.state, SUBJECT)
        assert 0 <= view.highest_sequence(node.state, "raid") < 1 << 63


@settings(max_examples=200, deadline=None)
@given(bodies)
def test_no_body_makes_a_run_that_cannot_be_shown(body):
    run = run_from(fact("www4", NIGHT, "run", "raid", "r", body))
    assert run is None or all(isinstance(word, str) for word in (*run.because, run.snapshot))


def test_what_a_newer_version_says_survives_the_trip_through_an_old_node(tmp_path):
    newer, old, third = (PlayedNode(str(tmp_path), name) for name in NAMES[:3])
    newer.record(
        fact("www4", NIGHT, "omen", "raid", "raven", {"flies": ["left"], "height": 2.5}),
        fact("www4", NIGHT, "copy", "raid", SUBJECT, {"everything": "is different"}),
        copied("www4", NIGHT, a_copy(2, "www4", "nas")),
    )
    newer.altered(
        "ALTER TABLE fact ADD COLUMN shape TEXT", "UPDATE fact SET shape = 'round ' || kind",
        "CREATE TABLE novelty (x)", "CREATE INDEX quick ON fact (shape)", "PRAGMA user_version = 9",
    )  # fmt: skip
    old.record(a_fact("www5", "copy", 1, "www5", "nas", 1))
    assert old.hear(newer.publish()).new == 3
    assert third.hear(old.publish()).new == 4
    assert [copy.sequence for copy in third.copies()] == [2, 1]
    for node in (old, third):
        kept = rows(node.state, "SELECT kind, shape FROM fact WHERE node = 'www4' ORDER BY kind")
        assert kept == [("copy", "round copy"), ("copy", "round copy"), ("omen", "round omen")]


an_instant = st.builds(
    lambda ahead, fraction, is_old: (ahead, 0 if is_old else fraction, is_old),
    st.integers(-3, 3), st.sampled_from([0, 1, 499_999, 999_999]), st.booleans(),
)  # fmt: skip


def told_of_the_nas(node, now, medium, ahead, fraction, is_old):
    """A fact as this version or (whole seconds) an older one writes it, by a clock that may be off."""
    at = now.replace(microsecond=fraction) + timedelta(seconds=ahead)
    said = expected(node, at, "nas", KnownMedium(medium))
    if not is_old:
        return said
    row = (node, iso(at), *as_row(said)[3:])
    return from_row((identity(*row), *row))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(who, an_instant), max_size=6))
def test_what_an_admin_accepts_counts_on_all_nodes_whatever_was_said_within_the_same_second(what):
    with a_folder() as folder:
        nodes = [PlayedNode(folder, name) for name in NAMES[:2]]
        now = datetime.now(UTC)
        for number, (one, when) in enumerate(what):
            node = nodes[one % 2]
            node.record(told_of_the_nas(node.name, now, f"medium-{number}", *when))
        meet(nodes)
        for node in (*nodes, nodes[0]):
            at = view.moment_to_correct(node.state, "nas")
            node.record(expected(node.name, at, "nas", KnownMedium(f"accepted-by-{node.name}")))
            meet(nodes)
            assert [view.expected_target(one.state, "nas") for one in nodes] == [
                KnownMedium(f"accepted-by-{node.name}")
            ] * 2


def test_facts_that_a_node_lost_come_back_from_the_others(tmp_path):
    first, second = (PlayedNode(str(tmp_path), name) for name in NAMES[:2])
    first.record(*(a_fact("www4", "copy", n, "www4", "nas", n) for n in (1, 2, 3)))
    second.hear(first.publish())
    before = first.copies()
    os.rename(first.state, first.state + ".lost")
    assert first.copies() == []
    assert first.hear(second.publish()).new == 3
    assert first.copies() == before


def test_a_catalog_that_comes_again_by_another_road_changes_nothing(tmp_path):
    first, second = (PlayedNode(str(tmp_path), name) for name in NAMES[:2])
    first.record(a_fact("www4", "copy", 1, "www4", "nas", 1))
    old, new = first.publish(), first.publish()
    assert second.hear(new, "nas").new == 1
    seen = view.seen(second.state)
    for file, road in ((new, "disk"), (old, "raid")):
        assert second.hear(file, road).new == 0
        assert view.seen(second.state) == seen


@pytest.mark.parametrize("days", [2, 400, 40_000])
def test_a_node_with_a_clock_in_the_future_is_seen_now_and_seen_again(tmp_path, days):
    first, second = (PlayedNode(str(tmp_path), name) for name in NAMES[:2])
    first.record(a_fact("www4", "copy", 1, "www4", "nas", 1))
    ahead = datetime.now(UTC) + timedelta(days=days)
    file = publish.publish(first.state, "www4", ahead)
    merge.merge(second.state, file, "nas", ANYBODY, NIGHT)
    assert view.seen(second.state)["www4"].seen_at == NIGHT
    file = publish.publish(first.state, "www4", ahead + timedelta(hours=1))
    merge.merge(second.state, file, "nas", ANYBODY, NIGHT + timedelta(hours=1))
    assert view.seen(second.state)["www4"].seen_at == NIGHT + timedelta(hours=1)
