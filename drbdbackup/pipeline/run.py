"""The run: ask the gate, make the snapshot on every target, record what happened, tell the other node.

Every path through here ends in a fact, stand-downs and refusals included, and no path calls a run complete that was
not. Who calls holds the lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from drbdbackup import gate, roles
from drbdbackup.catalog import bodies, exchange, store, view
from drbdbackup.catalog.bodies import Run
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import CatalogError, DrbdBackupError, Interrupted, PartialResult, Stopped
from drbdbackup.model.backup import Outcome, from_iso
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.pipeline import instant, journal, roads, sweep, unfinished
from drbdbackup.pipeline.around import Around
from drbdbackup.pipeline.order import Order, TargetResult
from drbdbackup.pipeline.session import Session
from drbdbackup.pipeline.watching import Watcher

_PATIENCE = 6  # times the deadline of a probe: a volume that is busy at night is none that hangs
_STATE_HINT = "Free some space on the disk that holds state_dir, or see why it cannot be written to."


@dataclass(slots=True)
class RunResult:
    """What came of a run for one resource; `error` is what ended it where that was not a single target's."""

    resource: str
    outcome: Outcome
    verdict: Verdict
    snapshot: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    targets: tuple[TargetResult, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    error: DrbdBackupError | None = None
    dry_run: bool = False


def run(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher, *,
    due_at: datetime | None = None, dry_run: bool = False, accept_shrink: bool = False,
) -> RunResult:  # fmt: skip
    """Back `resource` up to `targets` if this node is to do it; every outcome but an exception is recorded.

    `accept_shrink`: the source may have become much smaller.
    """
    if not dry_run:
        os.makedirs(config.state_dir, mode=0o700, exist_ok=True)
        heal(config)
        sweep.sweep(config, resource)
        roads.fetch_all(config, resource)
    verdict = unfinished.judged(config, resource, _judge(config, resource), _PATIENCE)
    with ExitStack() as stack:  # the journal ends after the run's fact: a kill between the two is told as one
        if verdict.decision is Decision.PROCEED:
            started_at = datetime.now(UTC)
            snapshot = view.free_name(config.state_dir, started_at, config.node)
            events = journal.Journal(os.devnull if dry_run else _journal_file(config), snapshot)
            stack.callback(events.close)
            order = Order(
                config, resource, targets, snapshot, started_at, lambda: _judge(config, resource),
                lambda: exchange.publish(config.state_dir, config.node), watcher, dry_run, accept_shrink,
                lambda: roles.generation(config.role, resource),
            )  # fmt: skip
            result = _back_up(order, verdict, events)
        else:
            outcome = Outcome.STOOD_DOWN if verdict.decision is Decision.STAND_DOWN else Outcome.REFUSED
            result = RunResult(resource.name, outcome, verdict, dry_run=dry_run)
        if not dry_run and not _is_recorded(config, result, due_at):
            return result
    if not dry_run:
        proceeded = verdict.decision is Decision.PROCEED and result.outcome is not Outcome.INTERRUPTED
        roads.put_all(config, resource, on_volume=proceeded)
    return result


def heal(config: Config) -> None:
    """Clear what a killed run left on this node: its scratch files, and a run that never said how it ended."""
    shutil.rmtree(os.path.join(config.state_dir, "spool"), ignore_errors=True)
    begun = journal.unfinished(_journal_file(config))
    if begun is None:
        return
    names = [resource.name for resource in config.resources]
    if begun.get("resource") in names and isinstance(begun.get("started_at"), str):
        now = datetime.now(UTC)
        killed = Run(
            str(begun["run"]), str(begun["resource"]), config.node, Outcome.INTERRUPTED, from_iso(begun["started_at"]),
            now, ("its process was killed",), snapshot=str(begun["run"]),
        )  # fmt: skip
        store.record(config.state_dir, config.node, [bodies.ran(killed)])
    os.unlink(_journal_file(config))


def _back_up(order: Order, verdict: Verdict, events: journal.Journal) -> RunResult:
    if not order.dry_run:
        roads.open_volume(order.config, order.resource)
    result = RunResult(
        order.resource.name, Outcome.FAILED, verdict, order.snapshot, order.started_at, dry_run=order.dry_run
    )
    session, around = Session(order, events), Around(order, events)
    wrong: list[DrbdBackupError] = []
    try:
        around.before()
        with instant.taken(order, wrong):
            session.work()
    except (Stopped, Interrupted) as error:
        result.outcome, result.error = Outcome.INTERRUPTED, error
    except DrbdBackupError as error:
        result.error = error
    except OSError as error:
        result.error = DrbdBackupError(f"{error.filename or order.config.state_dir}: {error.strerror}", _STATE_HINT)
    else:
        result.error = session.interrupted or session.gate.held
        ended = tuple(session.results.values())
        result.outcome = outcome_of(ended, session.interrupted, session.gate.held, dry_run=order.dry_run)
    result.targets, result.counts = tuple(session.results.values()), session.counts
    _take_in(result, wrong)
    _take_in(result, around.after(result.outcome, result.error, result.targets))
    result.finished_at = datetime.now(UTC)
    return result


def _take_in(result: RunResult, wrong: Sequence[DrbdBackupError]) -> None:
    """What went wrong around the copying is told with what went wrong before, and no run with it is complete."""
    if any(isinstance(error, (Stopped, Interrupted)) for error in wrong):
        result.outcome = Outcome.INTERRUPTED
    elif wrong and result.outcome is Outcome.COMPLETE:
        result.outcome = Outcome.PARTIAL
    for error in wrong:
        first, message = result.error or error, error.message
        if first is not error:
            message = f"{first.message}; {message}"
        kind = type(error) if isinstance(error, Stopped) else type(first)
        result.error = kind(message, "\n".join(dict.fromkeys(filter(None, (first.hint, error.hint)))))


def outcome_of(
    targets: Sequence[TargetResult], interrupted: Interrupted | None = None, held: PartialResult | None = None,
    *, dry_run: bool = False,
) -> Outcome:  # fmt: skip
    """complete: every target is done and lacks no file; partial: some have a copy, or lack files; else failed.

    A dry run leaves no copy anywhere: a target that is done counts as one that would have it.
    """
    if interrupted is not None:
        return Outcome.INTERRUPTED
    if held is not None:
        return Outcome.HELD
    if all(target.done and target.error is None and not target.problem_count for target in targets):
        return Outcome.COMPLETE
    return Outcome.PARTIAL if any(target.copy or (dry_run and target.done) for target in targets) else Outcome.FAILED


def _judge(config: Config, resource: ResourceConfig) -> Verdict:
    return gate.judge(resource, config.node, config.nodes, gate.gather(config, resource))


def _record(config: Config, result: RunResult, due_at: datetime | None) -> None:
    told = {target.name: _ended(target) for target in result.targets}
    because = result.verdict.because if result.error is None else (*result.verdict.because, result.error.message)
    name = result.snapshot or view.free_name(config.state_dir, result.started_at, config.node)
    run_fact = bodies.ran(
        Run(name, result.resource, config.node, result.outcome, result.started_at, result.finished_at, because,
            tuple(told.items()), due_at, result.snapshot)
    )  # fmt: skip
    store.record(config.state_dir, config.node, [run_fact])


def _is_recorded(config: Config, result: RunResult, due_at: datetime | None) -> bool:
    """Record the run. One that has made copies has made them, recorded or not: then that is its error.

    Raises CatalogError if there is nothing else to tell.
    """
    try:
        _record(config, result, due_at)
    except CatalogError as error:
        if not result.targets:
            raise
        result.error = result.error or CatalogError(f"the run could not be recorded: {error.message}", error.hint)
        if result.outcome is Outcome.COMPLETE:
            result.outcome = Outcome.PARTIAL
        return False
    return True


def _ended(target: TargetResult) -> dict[str, str]:
    if target.error is not None:
        return {"outcome": "failed", "message": target.error.message, "hint": target.error.hint}
    return {"outcome": "complete" if target.copy else "not copied", "message": "; ".join(target.notes), "hint": ""}


def _journal_file(config: Config) -> str:
    return os.path.join(config.state_dir, "journal")
