"""What the history makes of facts: what was pruned belongs to whoever was at work then, and nonsense is passed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from drbdbackup.catalog import history, store
from drbdbackup.catalog.bodies import EndedTarget, Run, copied, pruned, ran
from drbdbackup.catalog.facts import Fact, fact
from drbdbackup.model.backup import Copy, Outcome, snapshot_name

NIGHT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def a_run(node: str, minutes: int) -> Fact:
    at = NIGHT + minutes * MINUTE
    return ran(Run(
        name=snapshot_name(at, node), resource="raid", node=node, outcome=Outcome.COMPLETE, started_at=at,
        finished_at=at + 5 * MINUTE, targets=(("nas", EndedTarget(outcome="complete", files=2, bytes=7)),),
    ))  # fmt: skip


def a_copy(day: int) -> Copy:
    made = NIGHT - timedelta(days=day)
    return Copy(
        snapshot=snapshot_name(made, "www4"), resource="raid", sequence=day, node="www4", target="nas", kind="nas",
        medium="m", location="nas:/backup", holder="", path="/backup", started_at=made, finished_at=made, files=1,
        bytes=1,
    )  # fmt: skip


def record(state: str, *facts: Fact) -> None:
    for one in facts:
        store.record(state, one.node, [one])


def test_what_was_pruned_belongs_to_who_was_at_work_then(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    copies = [a_copy(day) for day in (1, 2, 3)]
    record(state, *(copied("www4", NIGHT, copy) for copy in copies))
    record(state, a_run("www4", 0), a_run("www4", 60), a_run("www5", 1))
    record(state, pruned("www4", NIGHT + 2 * MINUTE, copies[0], "old"))
    record(state, pruned("www4", NIGHT + 62 * MINUTE, copies[1], "older"))
    record(state, history.task(history.Activity(
        name="20261123T043000Z-www4-2", what=history.TaskKind.RESTORE, resource="raid", node="www4",
        outcome=Outcome.COMPLETE, started_at=NIGHT, finished_at=NIGHT + 5 * MINUTE,
    )))  # fmt: skip
    record(state, pruned("www4", NIGHT + 30 * MINUTE, copies[2], "between"))
    done = history.with_pruned(state, history.activities(state, "raid"))
    assert [(one.node, [(gone.snapshot, gone.target, gone.reason) for gone in one.pruned]) for one in done] == [
        ("www4", [(copies[1].snapshot, "nas", "older")]), ("www5", []), ("www4", []),
        ("www4", [(copies[0].snapshot, "nas", "old")]),
    ], "the restore that went on beside the run removed nothing"  # fmt: skip
    assert {(one.files, one.bytes) for one in done if one.what is history.TaskKind.RUN} == {(2, 7)}


def test_a_newer_version_s_task_and_nonsense_are_passed_over(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    told = {"started_at": "2026-11-23T04:30:00Z", "finished_at": "2026-11-23T04:31:00Z", "outcome": "complete"}
    bodies = [
        {**told, "task": "levitate"}, {**told, "task": "verify", "outcome": "splendid"}, {"task": "verify"},
        {**told, "task": "verify", "files": -1}, {**told, "task": "verify", "started_at": "yesterday"},
        {**told, "task": "verify", "because": 7, "snapshot": [], "place": None},
    ]  # fmt: skip
    names = [snapshot_name(NIGHT, "www4", number) for number in range(1, 7)]
    record(state, *(fact("www4", NIGHT, "task", "raid", name, body) for name, body in zip(names, bodies, strict=True)))
    [one] = history.activities(state, "raid")
    assert (one.name, one.because, one.snapshot, one.place) == (names[-1], (), "", "")


def test_since_counts_from_the_beginning_of_a_run(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    record(state, a_run("www4", 0), a_run("www4", 60))
    assert len(history.activities(state, "raid", NIGHT)) == 2
    assert len(history.activities(state, "raid", NIGHT + MINUTE)) == 1
    assert len(history.activities(state, "raid", NIGHT + 60 * MINUTE)) == 1
