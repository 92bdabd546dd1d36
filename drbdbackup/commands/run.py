"""`run`: one attempt for each resource, and what of it is worth a word.

It holds the node's lock from the first look at a role to the last fact. With --if-due it asks the catalog first, and
says the same thing only once per due time: cron comes by every quarter of an hour.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from drbdbackup import gate, lock
from drbdbackup.catalog import store, view
from drbdbackup.commands.due import due_since
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.doctor import sameness
from drbdbackup.errors import CatalogError, DrbdBackupError, Locked, Stopped
from drbdbackup.model.backup import Outcome
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.pipeline import roads, unfinished
from drbdbackup.pipeline import run as pipeline
from drbdbackup.pipeline.run import RunResult
from drbdbackup.pipeline.watching import Watcher

_STATUSES = {
    Outcome.COMPLETE: 0,
    Outcome.STOOD_DOWN: 0,
    Outcome.PARTIAL: 3,
    Outcome.HELD: 3,
    Outcome.REFUSED: 4,
    Outcome.FAILED: 1,
    Outcome.INTERRUPTED: 7,
}
_WORSE = (0, 3, 4, 6, 5, 2, 1, 7, 130, 143)
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class How:
    """What the admin has said: do nothing but plan; the source may have become much smaller."""

    dry_run: bool = False
    accept_shrink: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it for one resource: a result, or the error that left none. `told` says that it is no news."""

    resource: str
    result: RunResult | None = None
    error: DrbdBackupError | None = None
    verdict: Verdict | None = None
    told: bool = False

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        if self.result is not None:
            return self.result.outcome
        if self.verdict is not None and self.verdict.decision is Decision.STAND_DOWN:
            return Outcome.STOOD_DOWN
        return Outcome.REFUSED if self.verdict is not None else Outcome.FAILED

    @property
    def stood_down_now(self) -> bool:
        """Whether this very run found that it has to stand down: one that only said so again did not."""
        return self.result is not None and self.outcome is Outcome.STOOD_DOWN

    @property
    def status(self) -> int:
        """Its exit status."""
        error = self.result.error if self.result is not None else self.error
        if isinstance(error, Stopped) or (error is not None and self.result is None):
            return error.status
        return _STATUSES[self.outcome]


def run(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    how: How = How(),
) -> tuple[Attempt, ...]:  # fmt: skip
    """Back up each resource; an error of one does not stop the next, a signal does. Raises Locked."""
    with lock.held(lock_file(config)):
        _say_what_is_set_up(config, how)
        return _each(resources, lambda one: _attempt(config, one, targets, watcher, None, how))


def run_if_due(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig], watcher: Watcher, *,
    how: How = How(),
) -> tuple[Attempt, ...]:  # fmt: skip
    """The same for those that are due and not yet done by any node; nothing if another run is at work."""
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
            return _each(left, lambda one: _once(config, one, targets, watcher, due[one.name], how))
    except Locked:
        return ()


def exit_status(attempts: Sequence[Attempt]) -> int:
    """The worst of them."""
    return max((attempt.status for attempt in attempts), key=_WORSE.index, default=0)


def lock_file(config: Config) -> str:
    """What a run holds, and everything else that changes targets."""
    return os.path.join(config.state_dir, "lock")


def _say_what_is_set_up(config: Config, how: How) -> None:
    """For the doctor on the other node. A catalog that cannot be written has more to say when the run comes to it."""
    if not how.dry_run:
        with suppress(CatalogError):
            sameness.record(config)


def _each(resources: Sequence[ResourceConfig], attempt: Callable[[ResourceConfig], Attempt]) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    for resource in resources:
        attempts.append(attempt(resource))
        if attempts[-1].status >= Stopped.status:
            break
    return tuple(attempts)


def _attempt(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due: datetime | None, how: How,
) -> Attempt:  # fmt: skip
    try:
        result = pipeline.run(
            config, resource, targets, watcher, due_at=due, dry_run=how.dry_run, accept_shrink=how.accept_shrink
        )
    except DrbdBackupError as error:
        return Attempt(resource.name, error=error)
    return Attempt(resource.name, result)


def _once(
    config: Config, resource: ResourceConfig, targets: Sequence[TargetConfig], watcher: Watcher,
    due: datetime | None, how: How,
) -> Attempt:  # fmt: skip
    """An attempt for a due time, unless the gate says what it has said for it before; what is no news is marked."""
    if due is None or how.dry_run:
        return _attempt(config, resource, targets, watcher, due, how)
    verdict = unfinished.judged(config, resource, gate.ask(config, resource))
    if verdict.decision is not Decision.PROCEED and _is_recorded(config, resource, verdict, due):
        return Attempt(resource.name, verdict=verdict, told=True)
    attempt = _attempt(config, resource, targets, watcher, due, how)
    message = _gist(attempt)
    if attempt.status == 0 or isinstance(attempt.result.error if attempt.result else attempt.error, CatalogError):
        return attempt
    if view.was_told(config.state_dir, resource.name, due, message):
        return replace(attempt, told=True)
    store.tell(config.state_dir, resource.name, due, message)
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
