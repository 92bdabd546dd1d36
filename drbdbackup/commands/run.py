"""`run`: one attempt for each resource, and which of its messages are new.

It holds the node's lock from the first look at a role to the last fact. With --if-due it asks the catalog first, and
says the same thing only once per due time: cron comes by every quarter of an hour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.catalog import kept_configurations, store, view
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.due import TargetDue, due, due_since, next_due, own_schedules, served
from drbdbackup.errors import CalledOff, CatalogError, DrbdBackupError, Failure, Locked, PairCritical, Stopped
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Outcome, recorded
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.oversight import PairState
from drbdbackup.pair import digests
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.backup import run as pipeline
from drbdbackup.pipeline.backup.run import RunResult
from drbdbackup.pipeline.copies.pair_state import last_due, overseen
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.progress_file import written_progress
from drbdbackup.pipeline.volume import restore_record

_STATUSES = {
    Outcome.COMPLETE: 0,
    Outcome.STOOD_DOWN: 0,
    Outcome.PARTIAL: 3,
    Outcome.HELD: 3,
    Outcome.REFUSED: 4,
    Outcome.FAILED: 1,
    Outcome.INTERRUPTED: 7,
}
_WORSE = (0, PairCritical.status, 3, 4, 6, 5, 2, 1, 7, 130, 143)
_LOOKED = "looked"
_NUMBER = re.compile(r"\d+(\.\d+)?")


class RunOptions(Struct, frozen=True):
    """What the admin wants: do nothing but plan; the source may have become much smaller; a note on the snapshot.

    `is_named`: the targets are those that were named, and get their copy whatever their own schedules say.
    """

    dry_run: bool = False
    accept_shrink: bool = False
    note: str = ""
    is_named: bool = False


_DEFAULT_OPTIONS = RunOptions()


class Alarm(Struct, frozen=True):
    """What no run reports: the pair is not backed up as it should be, though no node did anything wrong."""

    resource: str
    because: tuple[str, ...]

    @property
    def error(self) -> PairCritical:
        """The same as an error, with what to do."""
        return PairCritical(f"{self.resource}: {'; '.join(self.because)}", "`drbdbackup status` on each node says why.")


class NotDue(Struct, frozen=True):
    """A target that had no part in a run, and when it has one."""

    target: str
    next_due: datetime


class Attempt(Struct, frozen=True):
    """What came of it for one resource: a result, or the error that left none. `is_reported`: it was before.

    `not_due` are the targets that had no part in it.
    """

    resource: str
    result: RunResult | None = None
    error: DrbdBackupError | None = None
    verdict: Verdict | None = None
    is_reported: bool = False
    not_due: tuple[NotDue, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        if self.result is not None:
            return self.result.outcome
        if self.verdict is not None and self.verdict.decision is Decision.STAND_DOWN:
            return Outcome.STOOD_DOWN
        return Outcome.REFUSED if self.verdict is not None else Outcome.FAILED

    @property
    def stood_down(self) -> bool:
        """Whether this node stands by: it had nothing to do here."""
        return self.outcome is Outcome.STOOD_DOWN

    @property
    def stood_down_now(self) -> bool:
        """Whether this very run found that it has to stand down: one that only repeated it did not."""
        return self.result is not None and self.stood_down

    @property
    def failed_with(self) -> DrbdBackupError | None:
        """The error that ended it."""
        return self.result.error if self.result is not None else self.error

    @property
    def status(self) -> int:
        """Its exit status."""
        error = self.failed_with
        if isinstance(error, Stopped) or (error is not None and self.result is None):
            return error.status
        return _STATUSES[self.outcome]


class RunAnswer(Struct, frozen=True):
    """What came of it for every resource, and with --if-due what is critical about a pair."""

    attempts: tuple[Attempt, ...]
    alarms: tuple[Alarm, ...] = ()

    @property
    def status(self) -> int:
        """The worst of them."""
        return worst([*(attempt.status for attempt in self.attempts), *(PairCritical.status for _ in self.alarms)])


class KeptCopies(Struct, frozen=True):
    """How many copies of a resource are known at a place: a target, or `disk@www4` for the disk of a node."""

    resource: str
    place: str
    count: int


class OwnSchedule(Struct, frozen=True):
    """When a target with a schedule of its own is due for a resource."""

    resource: str
    due: TargetDue


class Afterwards(Struct, frozen=True):
    """What is there after a run, and when the next one is due."""

    kept: tuple[KeptCopies, ...]
    next_due: datetime
    own_schedules: tuple[OwnSchedule, ...] = ()


def worst(statuses: Iterable[int]) -> int:
    """The exit status of what ended with all of these."""
    return max(statuses, key=_WORSE.index, default=0)


def afterwards(config: Config, resources: Sequence[ResourceConfig]) -> Afterwards:
    """What is known now; looks at the catalog only."""
    now = datetime.now(UTC)
    kept: dict[tuple[str, str], int] = {}
    own: list[OwnSchedule] = []
    for resource in resources:
        copies = view.configured(config, resource.name, adopted=True)
        own += [OwnSchedule(resource.name, one) for one in own_schedules(config, recorded(copies), now)]
        for copy in copies:
            place = resource.name, f"{copy.target}@{copy.holder}" if copy.holder else copy.target
            kept[place] = kept.get(place, 0) + 1
    counts = tuple(KeptCopies(*place, count) for place, count in kept.items())
    return Afterwards(counts, next_due(config, now), tuple(own))


def run(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    run_options: RunOptions = _DEFAULT_OPTIONS,
) -> RunAnswer:  # fmt: skip
    """Back up each resource; an error of one does not stop the next, a signal does. Raises Locked."""
    with lock.held(lock_file(config)):
        _say_what_is_set_up(config, run_options)
        with _watched(config, watcher, run_options) as watched:
            return RunAnswer(_each(resources, lambda one: _now(config, one, targets, watched, run_options)))


def run_if_due(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    run_options: RunOptions = _DEFAULT_OPTIONS,
) -> RunAnswer:  # fmt: skip
    """The same for those that are due and not yet done by any node; nothing if another drbdbackup is running.

    Then it looks after the pair: silence must mean success, and where both nodes stood down no run has failed.
    """
    attempts = _run_due_ones(config, resources, targets, watcher, run_options)
    return RunAnswer(attempts, () if run_options.dry_run else _alarms(config, resources, attempts))


def _run_due_ones(
    config: Config,
    resources: Sequence[ResourceConfig],
    targets: Sequence[TargetConfig],
    watcher: Watcher,
    run_options: RunOptions,
) -> tuple[Attempt, ...]:
    now = datetime.now(UTC)
    waiting = [one for one in resources if due_since(config, one.name, now, targets)]
    if not waiting:
        return ()
    try:
        with lock.held(lock_file(config), looks=True) as works:
            _say_what_is_set_up(config, run_options)
            catalog_exchange.fetch_all(config, waiting[0] if len(waiting) == 1 else None)
            dues = {one.name: due(config, one.name, now, targets) for one in waiting}
            left = [one for one in waiting if dues[one.name].since]
            if not left:
                return ()
            works()
            only = len(waiting) == 1  # what was fetched before another one's run is old by now
            with _watched(config, watcher, run_options) as shown:
                return _each(left, lambda one: replace(
                    _once(config, one, dues[one.name].targets, shown, dues[one.name].since, run_options,
                    is_fetched=only),
                    not_due=_not_due(config, targets, dues[one.name].targets, now),
                ))  # fmt: skip
    except Locked:
        return ()


def _alarms(
    config: Config, resources: Sequence[ResourceConfig], attempts: Sequence[Attempt]
) -> tuple[Alarm, ...]:
    """Look at the pair as a whole, once for each due time whose grace is over; what is critical.

    If all `attempts` stood down, catalogs were fetched for them a moment ago. After a backup they are old.
    """
    now = datetime.now(UTC)
    at = last_due(config, now)
    try:
        waiting = [one for one in resources if at and not view.was_reported(config.state_dir, _key(one), at, _LOOKED)]
        if not waiting:
            return ()
        with ExitStack() as stack:
            stuck = _why_stuck(stack, config)
            stood_down = {one.resource for one in attempts if one.outcome is Outcome.STOOD_DOWN}
            if len(stood_down) < len(attempts) or not stood_down.issuperset(one.name for one in waiting):
                catalog_exchange.fetch_all(config, waiting[0] if len(waiting) == 1 else None)
            return tuple(alarm for one in waiting if at and (alarm := _looked_after(config, one, at, now, stuck)))
    except (Locked, CatalogError):  # a later call looks again; what is wrong with the catalog the run has reported
        return ()


def _why_stuck(stack: ExitStack, config: Config) -> tuple[str, ...]:
    """Take the lock. Who holds it for longer than a run may last makes no backup any more: why, and it is not taken.

    Raises Locked for who may be making it now.
    """
    try:
        stack.enter_context(lock.held(lock_file(config), looks=True))
    except Locked as error:
        if lock.age(lock_file(config)) < config.limits.run + config.limits.stall:
            raise
        return (error.message,)
    return ()


def _looked_after(
    config: Config, resource: ResourceConfig, due_at: datetime, now: datetime, stuck: tuple[str, ...]
) -> Alarm | None:
    copies = view.configured(config, resource.name, adopted=True)
    verdict = overseen(config, resource.name, copies, now)
    store.note_reported(config.state_dir, _key(resource), due_at, _LOOKED)
    return Alarm(resource.name, (*verdict.because, *stuck)) if verdict.state is PairState.CRITICAL else None


def _key(resource: ResourceConfig) -> str:
    """The key under which `store.note_reported` keeps this, apart from the messages of the resource's own runs."""
    return f"{resource.name} overseen"


def _say_what_is_set_up(config: Config, run_options: RunOptions) -> None:
    """For the doctor on the other node, and for setting this one up again.

    A catalog that cannot be written is reported later, by the run.
    """
    if not run_options.dry_run:
        kept_configurations.keep(config)
        with suppress(CatalogError):
            digests.record(config)


def _watched(config: Config, watcher: Watcher, run_options: RunOptions) -> AbstractContextManager[Watcher]:
    """The watcher of the run, which also writes its progress down; a dry run writes nothing."""
    return nullcontext(watcher) if run_options.dry_run else written_progress(config, "run", watcher)


def _each(resources: Sequence[ResourceConfig], attempt: Callable[[ResourceConfig], Attempt]) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    for resource in resources:
        attempts.append(attempt(resource))
        if isinstance(attempts[-1].failed_with, (CalledOff, Stopped)):  # further signals are ignored by now
            break
    return tuple(attempts)


def _now(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher, run_options: RunOptions
) -> Attempt:
    """An attempt on the targets that have a part in it. What other nodes have made is fetched before that is asked."""
    if run_options.is_named or not any(target.schedule for target in targets):
        return _attempt(config, resource, targets, watcher, None, run_options)
    now = datetime.now(UTC)
    try:
        if not run_options.dry_run:
            private_folder(config.state_dir)
            catalog_exchange.fetch_all(config, resource)
        chosen = served(config, resource.name, now, targets)
        left_out = _not_due(config, targets, chosen, now)
    except Failure as error:
        return Attempt(resource.name, error=error)
    attempt = _attempt(config, resource, chosen, watcher, None, run_options, is_fetched=not run_options.dry_run)
    return replace(attempt, not_due=left_out)


def _not_due(
    config: Config, targets: Sequence[TargetConfig], chosen: Sequence[TargetConfig], now: datetime
) -> tuple[NotDue, ...]:
    """Those of the targets that are not chosen."""
    return tuple(NotDue(one.name, next_due(config, now, one)) for one in targets if one not in chosen)


def _attempt(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due_at: datetime | None, run_options: RunOptions, *, is_fetched: bool = False, verdict: Verdict | None = None,
) -> Attempt:  # fmt: skip
    try:
        result = pipeline.run(
            config, resource, targets, watcher, due_at=due_at, dry_run=run_options.dry_run,
            accept_shrink=run_options.accept_shrink,
            is_fetched=is_fetched, verdict=verdict, note=run_options.note,
        )  # fmt: skip
    except DrbdBackupError as error:
        return Attempt(resource.name, error=error)
    return Attempt(resource.name, result)


def _once(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due_at: datetime | None, run_options: RunOptions, *, is_fetched: bool,
) -> Attempt:  # fmt: skip
    """An attempt for a due time, unless the gate says the same as before; what is no news is marked."""
    if due_at is None or run_options.dry_run:
        return _attempt(config, resource, targets, watcher, due_at, run_options)
    verdict = restore_record.judged(config, resource, gate.ask(config, resource))
    if verdict.decision is not Decision.PROCEED and _is_recorded(config, resource, verdict, due_at):
        return Attempt(resource.name, verdict=verdict, is_reported=True)
    firm = None if verdict.decision is Decision.REFUSE else verdict  # a run waits longer for a volume that is busy
    attempt = _attempt(config, resource, targets, watcher, due_at, run_options, is_fetched=is_fetched, verdict=firm)
    message = _gist(attempt)
    if attempt.status == 0 or isinstance(attempt.failed_with, CatalogError):
        return attempt
    if view.was_reported(config.state_dir, resource.name, due_at, message):
        return replace(attempt, is_reported=True)
    store.note_reported(config.state_dir, resource.name, due_at, message)
    return attempt


def _is_recorded(config: Config, resource: ResourceConfig, verdict: Verdict, due_at: datetime) -> bool:
    """Whether this node has stood down, or refused for the same reasons, since the due time."""
    outcome = Outcome.STOOD_DOWN if verdict.decision is Decision.STAND_DOWN else Outcome.REFUSED
    return any(
        run.node == config.node and run.outcome is outcome and run.started_at >= due_at
        and (outcome is Outcome.STOOD_DOWN or run.because == verdict.because)
        for run in view.runs(config.state_dir, resource.name)
    )  # fmt: skip


def _gist(attempt: Attempt) -> str:
    """What went wrong, without what differs each time it goes wrong in the same way (seconds, bytes, process ids)."""
    parts, error = [attempt.outcome.value], attempt.failed_with
    if attempt.result is not None and attempt.outcome is Outcome.REFUSED:
        parts += attempt.result.verdict.because
    parts += [error.message] if error else []
    if attempt.result is not None:
        parts += [f"{one.name}: {one.error.message}" for one in attempt.result.targets if one.error]
    return _NUMBER.sub("#", "; ".join(parts))
