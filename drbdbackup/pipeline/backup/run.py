"""The run: ask the gate, make the snapshot on every target, record what happened, publish the catalog.

Every path through here ends in a fact, stand-downs and refusals included, and no path calls a run complete that was
not. The caller holds the lock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import gate, roles
from drbdbackup.catalog import bodies, pins, publish, store, view
from drbdbackup.catalog.bodies import EndedTarget, Run
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import (
    CalledOff,
    Cancelled,
    CatalogError,
    DrbdBackupError,
    Failure,
    Interrupted,
    PartialResult,
    StateError,
    Stopped,
    hint_for,
)
from drbdbackup.model.backup import Outcome, from_iso
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.backup import journal
from drbdbackup.pipeline.backup.order import Order, Prepared, TargetResult
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.volume import lvm_leftovers, restore_record

_PROBE_FACTOR = 6  # times the deadline of a probe: a volume that is busy at night is none that hangs
_IGNORE = "Only one volume of a resource can be. If that is as it should be: `ignore_volumes` in [resource.NAME]."
_STATE_HINT = "Free some space on the disk that holds state_dir, or see why it cannot be written to."


class RunResult(Struct, frozen=True, kw_only=True):
    """What came of a run for one resource; `error` is what ended it where that was not a single target's."""

    resource: str
    outcome: Outcome
    verdict: Verdict
    snapshot: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    targets: tuple[TargetResult, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    error: DrbdBackupError | None = None
    dry_run: bool = False


def run(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher, *,
    due_at: datetime | None = None, dry_run: bool = False, accept_shrink: bool = False,
    is_fetched: bool = False, verdict: Verdict | None = None, note: str = "",
) -> RunResult:  # fmt: skip
    """Back `resource` up to `targets` if this node is to do it; every outcome but an exception is recorded.

    `accept_shrink`: the source may have become much smaller. `note` is kept with the snapshot. The caller may have
    done the first two steps: fetched the catalogs (`is_fetched`), and asked for the `verdict`. It is asked again before
    each target.
    """
    if not dry_run:
        private_folder(config.state_dir)
        heal(config)
        lvm_leftovers.sweep(config, resource)
        if not is_fetched:
            catalog_exchange.fetch_all(config, resource)
    if verdict is None:
        verdict = restore_record.judged(config, resource, gate.ask(config, resource), _PROBE_FACTOR)
    with ExitStack() as stack:  # the journal ends after the run's fact: a kill between the two is reported as one
        if verdict.decision is Decision.PROCEED:
            started_at = datetime.now(UTC)
            snapshot = view.free_name(config.state_dir, started_at, config.node)
            events = journal.Journal(os.devnull if dry_run else _journal_file(config), snapshot)
            stack.callback(events.close)
            order = Order(
                config=config, resource=resource, targets=targets, snapshot=snapshot, started_at=started_at,
                judge=lambda: gate.ask(config, resource),
                pass_on=lambda: publish.publish(config.state_dir, config.node),
                generation=lambda: roles.generation(config.role, resource),
                watcher=watcher, dry_run=dry_run, accept_shrink=accept_shrink,
            )  # fmt: skip
            result = _back_up(order, verdict, events)
        else:
            outcome = Outcome.STOOD_DOWN if verdict.decision is Decision.STAND_DOWN else Outcome.REFUSED
            result = RunResult(resource=resource.name, outcome=outcome, verdict=verdict, dry_run=dry_run)
        if not dry_run and (unrecorded := _try_to_record(config, result, due_at, note)):
            return unrecorded
    if not dry_run:
        proceeded = verdict.decision is Decision.PROCEED and result.outcome is not Outcome.INTERRUPTED
        catalog_exchange.put_all(config, resource, on_volume=proceeded)
    return result


def heal(config: Config) -> None:
    """Clear what a killed run left on this node: its scratch files, and a run that never recorded how it ended."""
    shutil.rmtree(os.path.join(config.state_dir, "spool"), ignore_errors=True)
    begun = journal.unfinished(_journal_file(config))
    if begun is None:
        return
    names = [resource.name for resource in config.resources]
    if begun.get("resource") in names and isinstance(begun.get("started_at"), str):
        now = datetime.now(UTC)
        killed = Run(
            name=str(begun["run"]), resource=str(begun["resource"]), node=config.node, outcome=Outcome.INTERRUPTED,
            started_at=from_iso(begun["started_at"]), finished_at=now, because=("its process was killed",),
            snapshot=str(begun["run"]),
        )  # fmt: skip
        store.record(config.state_dir, config.node, [bodies.ran(killed)])
    os.unlink(_journal_file(config))


def _back_up(order: Order, verdict: Verdict, events: journal.Journal) -> RunResult:
    # A node that stands down, each quarter of an hour, pays for none of these.
    from drbdbackup.pipeline.backup import take_lvm_snapshot
    from drbdbackup.pipeline.backup.before_after import BeforeAfter
    from drbdbackup.pipeline.backup.session import Session

    if not order.dry_run:
        catalog_exchange.open_volume(order.config, order.resource)
    outcome = Outcome.FAILED
    failed: DrbdBackupError | None = None
    session, around = Session(order, events), BeforeAfter(order, events)  # it watches the mount from here on
    wrong: list[DrbdBackupError] = [PartialResult(left_out, _IGNORE) for left_out in verdict.left_out]
    try:
        problems = around.before()
        with take_lvm_snapshot.taken(order, wrong) as taken:
            session.work(Prepared(
                hooks=around.of_targets, problems=problems, lvm_snapshot=taken.lvm_snapshot, note=taken.note,
            ))
    except Cancelled as error:
        outcome = Outcome.INTERRUPTED
        failed = error
    except Failure as error:
        failed = error
    except OSError as error:
        where = error.filename or order.config.state_dir
        failed = StateError(f"{where}: {error.strerror}", hint_for(error.errno) or _STATE_HINT)
    else:
        failed = session.interrupted or session.shrink_gate.held
        ended = tuple(session.results.values())
        outcome = outcome_of(ended, session.interrupted, session.shrink_gate.held, dry_run=order.dry_run)
    targets = tuple(session.results.values())
    outcome, failed = _with_errors_around(outcome, failed, wrong)
    outcome, failed = _with_errors_around(outcome, failed, around.after(outcome, failed, targets))
    return RunResult(
        resource=order.resource.name, outcome=outcome, verdict=verdict, snapshot=order.snapshot,
        started_at=order.started_at, finished_at=datetime.now(UTC), targets=targets, counts=session.counts,
        error=failed, dry_run=order.dry_run,
    )  # fmt: skip


def _with_errors_around(
    outcome: Outcome, failed: DrbdBackupError | None, wrong: Sequence[DrbdBackupError]
) -> tuple[Outcome, DrbdBackupError | None]:
    """What went wrong around the copying joins what went wrong before, and no run with it is complete."""
    if any(isinstance(error, Cancelled) for error in wrong):
        outcome = Outcome.INTERRUPTED
    elif wrong and outcome is Outcome.COMPLETE:
        outcome = Outcome.PARTIAL
    for error in wrong:
        first, message = failed or error, error.message
        if first is not error:
            message = f"{first.message}; {message}"
        kind = type(error) if isinstance(error, (CalledOff, Stopped)) else type(first)
        failed = kind(message, "\n".join(dict.fromkeys(filter(None, (first.hint, error.hint)))))
    return outcome, failed


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
    is_there = any(one.copy or (dry_run and one.done and one.error is None) for one in targets)
    return Outcome.PARTIAL if is_there else Outcome.FAILED


def _record(config: Config, result: RunResult, due_at: datetime | None, note: str) -> None:
    because = result.verdict.because if result.error is None else (*result.verdict.because, result.error.message)
    name = result.snapshot or view.free_name(config.state_dir, result.started_at, config.node)
    run_fact = bodies.ran(
        Run(
            name=name, resource=result.resource, node=config.node, outcome=result.outcome, started_at=result.started_at,
            finished_at=result.finished_at, because=because,
            targets=tuple((target.name, _ended(target)) for target in result.targets), due_at=due_at,
            snapshot=result.snapshot,
        )
    )  # fmt: skip
    store.record(config.state_dir, config.node, [run_fact])
    if note and any(target.copy for target in result.targets):
        noted = pins.noted(config.node, datetime.now(UTC), result.resource, name, note)
        store.record(config.state_dir, config.node, [noted])


def _try_to_record(config: Config, result: RunResult, due_at: datetime | None, note: str) -> RunResult | None:
    """Record the run. One that has made copies has made them, recorded or not: then what is returned says so.

    Raises CatalogError if there is nothing else to report.
    """
    try:
        _record(config, result, due_at, note)
    except CatalogError as error:
        if not result.targets:
            raise
        unrecorded = CatalogError(f"the run could not be recorded: {error.message}", error.hint)
        outcome = Outcome.PARTIAL if result.outcome is Outcome.COMPLETE else result.outcome
        return replace(result, error=result.error or unrecorded, outcome=outcome)
    return None


def _ended(target: TargetResult) -> EndedTarget:
    error = target.error
    return EndedTarget(
        outcome="failed" if error else "complete" if target.copy else "not copied",
        message=error.message if error else "; ".join(target.notes), hint=error.hint if error else "",
        files=target.counts.get("copied", 0), bytes=target.counts.get("copied_bytes", 0),
    )  # fmt: skip


def _journal_file(config: Config) -> str:
    return os.path.join(config.state_dir, "journal")
