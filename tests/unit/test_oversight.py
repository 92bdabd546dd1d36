"""Whether somebody has backed the pair up: what no node can say for itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from drbdbackup.catalog.bodies import Run
from drbdbackup.model.backup import Copy, Outcome
from drbdbackup.oversight import NodeSeen, PairState, Watched, judge
from tests.played_drbd import a_copy

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DUE = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def a_run(node: str, outcome: Outcome, at: datetime = DUE) -> Run:
    return Run(
        name=f"run-{node}",
        resource="raid",
        node=node,
        outcome=outcome,
        started_at=at,
        finished_at=at + timedelta(minutes=5),
    )


def a_backup(at: datetime = DUE, node: str = "www4") -> Copy:
    return a_copy(7, node, at, None)


def seen(node: str, outcome: Outcome | None, at: datetime = DUE, *, here: bool = False) -> NodeSeen:
    run = a_run(node, outcome, at) if outcome else None
    return NodeSeen(node, run.finished_at if run else None, run, here)


WELL = Watched(
    now=NOW, due=DUE, silence=2 * DAY,
    nodes=(seen("www4", Outcome.COMPLETE, here=True), seen("www5", Outcome.STOOD_DOWN)), backup=a_backup(),
    began=NOW - 30 * DAY,
)  # fmt: skip


def judged(**changes: object) -> tuple[PairState, str]:
    verdict = judge(replace(WELL, **changes))  # type: ignore[arg-type]
    return verdict.state, "; ".join(verdict.because)


def test_a_backup_of_the_last_due_time_is_well() -> None:
    state, because = judged()
    assert state is PairState.OK
    assert "www4 made 20261123T043000Z-www4" in because
    assert "www5 was last heard from" in because


def test_a_link_that_drbd_has_given_up_may_be_a_split_brain() -> None:
    state, because = judged(apart=("www5",))
    assert state is PairState.WARNING
    assert "www5 (StandAlone)" in because


def test_it_plays_no_part_which_node_made_it() -> None:
    assert judged(backup=a_backup(node="www5"))[0] is PairState.OK


def test_a_clock_that_is_a_little_behind_does_no_harm() -> None:
    assert judged(backup=a_backup(DUE - timedelta(minutes=4)))[0] is PairState.OK


def test_both_secondary_is_critical_though_each_did_right() -> None:
    nodes = (seen("www4", Outcome.STOOD_DOWN, here=True), seen("www5", Outcome.STOOD_DOWN))
    state, because = judged(nodes=nodes, backup=a_backup(DUE - DAY))
    assert state is PairState.CRITICAL
    assert "www4 and www5 all stood down, none of them was Primary" in because


def test_both_silent_is_critical() -> None:
    nodes = tuple(seen(node, Outcome.STOOD_DOWN, DUE - DAY) for node in ("www4", "www5"))
    state, because = judged(nodes=nodes, backup=a_backup(DUE - DAY))
    assert state is PairState.CRITICAL
    assert "no run of www4 and www5 is known since" in because


def test_what_each_node_did_instead_is_told() -> None:
    nodes = (seen("www4", Outcome.FAILED, here=True), seen("www5", Outcome.STOOD_DOWN, DUE - DAY))
    state, because = judged(nodes=nodes, backup=a_backup(DUE - DAY))
    assert state is PairState.CRITICAL
    assert "www4 failed, www5 no run" in because


def test_a_node_not_heard_of_for_two_days_is_critical_whoever_makes_the_backups() -> None:
    silent = seen("www5", Outcome.STOOD_DOWN, NOW - 3 * DAY)
    state, because = judged(nodes=(WELL.nodes[0], silent))
    assert state is PairState.CRITICAL
    assert because == "www5 has not been heard of since 2026-11-20T12:05:00Z"
    assert judged(nodes=(WELL.nodes[0], seen("www5", Outcome.STOOD_DOWN, NOW - DAY)))[0] is PairState.OK


def test_a_catalog_without_a_run_is_a_sign_of_its_node_too() -> None:
    assert judged(nodes=(WELL.nodes[0], NodeSeen("www5", NOW - DAY)))[0] is PairState.OK


def test_that_this_node_is_asked_is_no_sign_that_it_runs() -> None:
    here = NodeSeen("www5", NOW, a_run("www5", Outcome.STOOD_DOWN, NOW - 3 * DAY), is_here=True)
    state, because = judged(nodes=(seen("www4", Outcome.COMPLETE), here))
    assert (state, because) == (PairState.CRITICAL, "www5 has not run since 2026-11-20T12:05:00Z")


def test_a_node_never_heard_of_is_a_warning_while_the_pair_is_new() -> None:
    nodes = (WELL.nodes[0], NodeSeen("www5"))
    assert judged(nodes=nodes, began=NOW - HOUR) == (PairState.WARNING, "www5 has never been heard of")
    assert judged(nodes=nodes)[0] is PairState.CRITICAL


def test_a_pair_without_a_backup_is_a_warning_until_one_was_due() -> None:
    assert judged(backup=None, began=NOW - HOUR)[0] is PairState.WARNING
    assert judged(backup=None, due=None)[0] is PairState.WARNING
    assert judged(backup=None)[0] is PairState.CRITICAL


def test_within_its_grace_the_backup_of_before_will_do() -> None:
    """`due` is the newest due time whose grace is over: that of the day before."""
    assert judged(due=DUE - DAY, backup=a_backup(DUE - DAY))[0] is PairState.OK


def test_a_last_run_that_went_wrong_is_a_warning_until_a_backup_follows() -> None:
    failed = (seen("www4", Outcome.PARTIAL, here=True), WELL.nodes[1])
    assert judged(nodes=failed) == (PairState.WARNING, "the last run of www4 ended partial")
    interrupted = (seen("www4", Outcome.INTERRUPTED, here=True), WELL.nodes[1])
    assert judged(nodes=interrupted, backup=a_backup(DUE + HOUR, "www5"))[0] is PairState.OK


def test_a_split_brain_is_critical_with_the_best_of_backups() -> None:
    state, because = judged(rivals=("www4", "www5"))
    assert state is PairState.CRITICAL
    assert because.startswith("split brain: www4 and www5")
