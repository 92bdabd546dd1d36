"""The pair's verdict: the order of the nodes is nothing, more trouble never makes it better, a backup never worse."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.model.backup import Outcome
from drbdbackup.oversight import NodeSeen, PairState, Watched, judge
from tests.unit.test_oversight import DUE, NOW, a_backup, a_run

MOMENTS = st.integers(0, 200).map(lambda hours: NOW - timedelta(hours=hours))
NODES = ("www4", "www5", "www6")


@st.composite
def nodes_seen(draw: st.DrawFn) -> tuple[NodeSeen, ...]:
    found = []
    for name in NODES[: draw(st.integers(1, 3))]:
        at = draw(st.none() | MOMENTS)
        run = a_run(name, draw(st.sampled_from(Outcome)), at) if at else None
        found.append(NodeSeen(name, draw(st.none() | MOMENTS), run, name == "www4"))
    return tuple(found)


WATCHED = st.builds(
    Watched, now=st.just(NOW), due=st.none() | st.just(DUE), silence=st.just(timedelta(days=2)), nodes=nodes_seen(),
    backup=st.none() | MOMENTS.map(a_backup), began=st.none() | MOMENTS,
    rivals=st.just(()) | st.just(("www4", "www5")),
)  # fmt: skip


def badness(watched: Watched) -> int:
    return list(PairState).index(judge(watched).state)


@given(WATCHED)
def test_the_order_of_the_nodes_counts_for_nothing(watched: Watched) -> None:
    assert judge(replace(watched, nodes=watched.nodes[::-1])) == judge(watched)


@given(WATCHED, MOMENTS)
def test_a_newer_backup_never_makes_it_worse(watched: Watched, at: datetime) -> None:
    if watched.backup is not None and watched.backup.started_at <= at:
        assert badness(replace(watched, backup=a_backup(at))) <= badness(watched)


@given(WATCHED)
def test_one_more_node_never_makes_it_better(watched: Watched) -> None:
    fewer = replace(watched, nodes=watched.nodes[:-1])
    assert badness(fewer) <= badness(watched)


@given(WATCHED)
def test_a_verdict_that_is_not_well_says_why(watched: Watched) -> None:
    verdict = judge(watched)
    assert verdict.because or verdict.state is PairState.OK


@given(WATCHED)
def test_well_means_a_backup_of_the_last_due_time_and_no_silent_node(watched: Watched) -> None:
    if judge(watched).state is PairState.OK:
        assert watched.backup is not None
        assert watched.due is None or watched.backup.started_at >= watched.due - timedelta(minutes=5)
        assert all(seen.last_sign and NOW - seen.last_sign < watched.silence for seen in watched.nodes)
