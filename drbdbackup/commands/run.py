"""`run`: one attempt for each resource, and what of it is worth a word.

It holds the node's lock from the first look at a role to the last fact. With --if-due it asks the catalog first, and
says the same thing only once per due time: cron comes by every quarter of an hour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.catalog import kept_configurations, store, view
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.due import due_since, next_due
from drbdbackup.errors import CalledOff, CatalogError, DrbdBackupError, Locked, PairCritical, Stopped
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Outcome
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.oversight import PairState
from drbdbackup.pair import digests
from drbdbackup.pipeline import roads
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


class How(Struct, frozen=True):
    """What the admin has said: do nothing but plan; the source may have become much smaller; a note on the snapshot."""

    dry_run: bool = False
    accept_shrink: bool = False
    note: str = ""


_IN_EARNEST = How()


class Alarm(Struct, frozen=True):
    """What nobody else would say: that the pair is not backed up as it should be, though no node did anything wrong."""

    resource: str
    because: tuple[str, ...]

    @property
    def error(self) -> PairCritical:
        """The same as an error, with what to do."""
        return PairCritical(f"{self.resource}: {'; '.join(self.because)}", "`drbdbackup status` on each node says why.")


class Attempt(Struct, frozen=True):
    """What came of it for one resource: a result, or the error that left none. `is_reported`: it was before."""

    resource: str
    result: RunResult | None = None
    error: DrbdBackupError | None = None
    verdict: Verdict | None = None
    is_reported: bool = False

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
        """Whether this very run found that it has to stand down: one that only said so again did not."""
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


class Afterwards(Struct, frozen=True):
    """What is there after a run: how many copies of a resource are known at which place, and when the next is due."""

    kept: tuple[tuple[str, str, int], ...]
    next_due: datetime


def worst(statuses: Iterable[int]) -> int:
    """The exit status of what ended with all of these."""
    return max(statuses, key=_WORSE.index, default=0)


def afterwards(config: Config, resources: Sequence[ResourceConfig]) -> Afterwards:
    """What is known now; looks at the catalog only."""
    kept: dict[tuple[str, str], int] = {}
    for resource in resources:
        for copy in view.configured(config, resource.name, adopted=True):
            place = resource.name, f"{copy.target}@{copy.holder}" if copy.holder else copy.target
            kept[place] = kept.get(place, 0) + 1
    return Afterwards(tuple((*place, count) for place, count in kept.items()), next_due(config, datetime.now(UTC)))


def run(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    how: How = _IN_EARNEST,
) -> RunAnswer:  # fmt: skip
    """Back up each resource; an error of one does not stop the next, a signal does. Raises Locked."""
    with lock.held(lock_file(config)):
        _say_what_is_set_up(config, how)
        with _watched(config, watcher, how) as watched:
            return RunAnswer(_each(resources, lambda one: _attempt(config, one, targets, watched, None, how)))


def run_if_due(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    how: How = _IN_EARNEST,
) -> RunAnswer:  # fmt: skip
    """The same for those that are due and not yet done by any node; nothing if another drbdbackup is running.

    Then it looks after the pair: silence must mean success, and where both nodes stood down no run has failed.
    """
    attempts = _run_due_ones(config, resources, targets, watcher, how)
    return RunAnswer(attempts, () if how.dry_run else _alarms(config, resources, attempts))


def _run_due_ones(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, how: How
) -> tuple[Attempt, ...]:
    now = datetime.now(UTC)
    waiting = [one for one in resources if due_since(config, one.name, now, targets)]
    if not waiting:
        return ()
    try:
        with lock.held(lock_file(config)):
            _say_what_is_set_up(config, how)
            roads.fetch_all(config, waiting[0] if len(waiting) == 1 else None)
            due = {one.name: due_since(config, one.name, now, targets) for one in waiting}
            left = [one for one in waiting if due[one.name]]
            only = len(waiting) == 1  # what was fetched before another one's run is old by now
            with _watched(config, watcher, how) as shown:
                return _each(left, lambda one: _once(config, one, targets, shown, due[one.name], how, is_fetched=only))
    except Locked:
        return ()


def _alarms(
    config: Config, resources: Sequence[ResourceConfig], attempts: Sequence[Attempt]
) -> tuple[Alarm, ...]:
    """Look at the pair as a whole, once for each due time whose grace is over; what is critical.

    If all `attempts` stood down, catalogs were fetched for them a moment ago. After a backup they are old.
    """
    now = datetime.now(UTC)
    due = last_due(config, now)
    try:
        waiting = [one for one in resources if due and not view.was_reported(config.state_dir, _key(one), due, _LOOKED)]
        if not waiting:
            return ()
        with lock.held(lock_file(config)):
            stood_down = {one.resource for one in attempts if one.outcome is Outcome.STOOD_DOWN}
            if len(stood_down) < len(attempts) or not stood_down.issuperset(one.name for one in waiting):
                roads.fetch_all(config, waiting[0] if len(waiting) == 1 else None)
            return tuple(alarm for one in waiting if due and (alarm := _looked_after(config, one, due, now)))
    except (Locked, CatalogError):  # a later call looks again; what is wrong with the catalog the run has said
        return ()


def _looked_after(config: Config, resource: ResourceConfig, due: datetime, now: datetime) -> Alarm | None:
    copies = view.configured(config, resource.name, adopted=True)
    verdict = overseen(config, resource.name, copies, now)
    store.note_reported(config.state_dir, _key(resource), due, _LOOKED)
    return Alarm(resource.name, verdict.because) if verdict.state is PairState.CRITICAL else None


def _key(resource: ResourceConfig) -> str:
    """The key under which `store.note_reported` keeps this, apart from the messages of the resource's own runs."""
    return f"{resource.name} overseen"


def _say_what_is_set_up(config: Config, how: How) -> None:
    """For the doctor on the other node, and for whoever has to set this one up anew.

    A catalog that cannot be written has more to say when the run comes to it.
    """
    if not how.dry_run:
        kept_configurations.keep(config)
        with suppress(CatalogError):
            digests.record(config)


def _watched(config: Config, watcher: Watcher, how: How) -> AbstractContextManager[Watcher]:
    """Whom the run tells how far it is: a dry run writes nothing."""
    return nullcontext(watcher) if how.dry_run else written_progress(config, "run", watcher)


def _each(resources: Sequence[ResourceConfig], attempt: Callable[[ResourceConfig], Attempt]) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    for resource in resources:
        attempts.append(attempt(resource))
        if isinstance(attempts[-1].failed_with, (CalledOff, Stopped)):  # further signals are ignored by now
            break
    return tuple(attempts)


def _attempt(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due: datetime | None, how: How, *, is_fetched: bool = False, verdict: Verdict | None = None,
) -> Attempt:  # fmt: skip
    try:
        result = pipeline.run(
            config, resource, targets, watcher, due_at=due, dry_run=how.dry_run, accept_shrink=how.accept_shrink,
            is_fetched=is_fetched, verdict=verdict, note=how.note,
        )  # fmt: skip
    except DrbdBackupError as error:
        return Attempt(resource.name, error=error)
    return Attempt(resource.name, result)


def _once(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due: datetime | None, how: How, *, is_fetched: bool,
) -> Attempt:  # fmt: skip
    """An attempt for a due time, unless the gate says what it has said for it before; what is no news is marked."""
    if due is None or how.dry_run:
        return _attempt(config, resource, targets, watcher, due, how)
    verdict = restore_record.judged(config, resource, gate.ask(config, resource))
    if verdict.decision is not Decision.PROCEED and _is_recorded(config, resource, verdict, due):
        return Attempt(resource.name, verdict=verdict, is_reported=True)
    firm = None if verdict.decision is Decision.REFUSE else verdict  # a run waits longer for a volume that is busy
    attempt = _attempt(config, resource, targets, watcher, due, how, is_fetched=is_fetched, verdict=firm)
    message = _gist(attempt)
    if attempt.status == 0 or isinstance(attempt.result.error if attempt.result else attempt.error, CatalogError):
        return attempt
    if view.was_reported(config.state_dir, resource.name, due, message):
        return replace(attempt, is_reported=True)
    store.note_reported(config.state_dir, resource.name, due, message)
    return attempt


def _is_recorded(config: Config, resource: ResourceConfig, verdict: Verdict, due: datetime) -> bool:
    """Whether this node has stood down, or refused for the same reasons, since the due time."""
    outcome = Outcome.STOOD_DOWN if verdict.decision is Decision.STAND_DOWN else Outcome.REFUSED
    return any(
        run.node == config.node and run.outcome is outcome and run.started_at >= due
        and (outcome is Outcome.STOOD_DOWN or run.because == verdict.because)
        for run in view.runs(config.state_dir, resource.name)
    )  # fmt: skip


def _gist(attempt: Attempt) -> str:
    """What went wrong, without what differs each time it goes wrong in the same way (seconds, bytes, process ids)."""
    said = [attempt.outcome.value, *([attempt.error.message] if attempt.error else [])]
    if attempt.result is not None:
        error = attempt.result.error
        said += attempt.result.verdict.because if attempt.outcome is Outcome.REFUSED else ()
        said += [error.message] if error else []
        said += [f"{one.name}: {one.error.message}" for one in attempt.result.targets if one.error]
    return _NUMBER.sub("#", "; ".join(said))
