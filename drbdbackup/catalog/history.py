"""What every node has done: runs, and the tasks beside them (replications, restores, verifies, drills, prunes).

A task is recorded when it has ended, by the node that did it, as a run is. What was pruned meanwhile, and why, is said
by facts of their own: that node's between begin and end, since it does one such thing at a time.

What cannot be recorded never makes a task a failed one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog import store
from drbdbackup.catalog.bodies import EndedBody, EndedTarget, run_from, texts
from drbdbackup.catalog.facts import FACTS, RUN, TASK, Fact, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.catalog.view import free_name
from drbdbackup.config.values import Config
from drbdbackup.errors import Cancelled, CatalogError, DrbdBackupError, Locked, NothingFound, RoleError, UsageError
from drbdbackup.model.backup import Outcome, iso
from drbdbackup.model.document_reader import Count, fitting, line_of

_DONE = f"{FACTS} WHERE kind IN ('run', 'task') AND resource = ? AND at >= ? ORDER BY at DESC, id DESC"
_PRUNED = """
SELECT gone.node, gone.at, gone.subject, gone.body, (
    SELECT body FROM fact WHERE subject = gone.subject AND kind IN ('copy', 'safety') LIMIT 1
) FROM fact AS gone WHERE gone.kind = 'pruned' AND gone.resource = ? AND gone.at >= ? ORDER BY gone.at, gone.id
"""
_SECOND, _AT_ONCE = timedelta(seconds=1), 4
_NOTHING_DONE = (UsageError, Locked, NothingFound)  # nothing was done


class TaskKind(Enum):
    """What was done."""

    RUN = "run"
    REPLICATE = "replicate"
    RESTORE = "restore"
    VERIFY = "verify"
    DRILL = "drill"
    PRUNE = "prune"


_PRUNING = (TaskKind.RUN, TaskKind.REPLICATE, TaskKind.PRUNE)


class PrunedCopy(Struct, frozen=True):
    """A copy that went, from which target ("" if nobody knows), and why."""

    snapshot: str
    target: str
    reason: str


class Activity(Struct, frozen=True, kw_only=True):
    """One thing that a node has done with a resource: so many `files` of `bytes`, of `snapshot`, at `place`.

    `targets` are those of a run; `files` and `bytes` are None where nobody counted.
    """

    name: str
    what: TaskKind
    resource: str
    node: str
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    because: tuple[str, ...] = ()
    snapshot: str = ""
    place: str = ""
    files: int | None = None
    bytes: int | None = None
    targets: tuple[tuple[str, EndedTarget], ...] = ()
    due_at: datetime | None = None
    pruned: tuple[PrunedCopy, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


class Draft:
    """What a task says of itself while it goes on; see `recorded`."""

    def __init__(self, snapshot: str, place: str) -> None:
        """Complete, unless somebody says otherwise."""
        self.snapshot, self.place = snapshot, place
        self.outcome = Outcome.COMPLETE
        self.because: list[str] = []
        self.files = self.bytes = 0


@contextmanager
def recorded(config: Config, what: TaskKind, resource: str, snapshot: str = "", place: str = "") -> Iterator[Draft]:
    """A task, recorded when the block ends: with what the draft then says, or with the error that ends it."""
    draft, started_at = Draft(snapshot, place), datetime.now(UTC)
    try:
        yield draft
    except _NOTHING_DONE:
        raise
    except DrbdBackupError as error:
        draft.outcome = outcome_of(error)
        draft.because.append(error.message)
        _record(config, what, resource, draft, started_at)
        raise
    _record(config, what, resource, draft, started_at)


def outcome_of(error: DrbdBackupError) -> Outcome:
    """How a task ended that an error has ended."""
    if isinstance(error, Cancelled):
        return Outcome.INTERRUPTED
    return Outcome.REFUSED if isinstance(error, RoleError) else Outcome.FAILED


def record(config: Config, done: Activity) -> None:
    """Record a task that has ended, under a name of its own. That this cannot be done makes no task a failed one."""
    with suppress(CatalogError):
        name = free_name(config.state_dir, done.started_at, config.node)
        store.record(config.state_dir, config.node, [task(replace(done, name=name))])


def task(done: Activity) -> Fact:
    """The fact that a task has ended, recorded by the node that did it."""
    body = {
        "task": done.what.value, "outcome": done.outcome.value, "started_at": iso(done.started_at),
        "finished_at": iso(done.finished_at), "because": list(done.because), "snapshot": done.snapshot,
        "place": done.place, "files": done.files or 0, "bytes": done.bytes or 0,
    }  # fmt: skip
    return fact(done.node, done.finished_at, TASK, done.resource, done.name, body)


def activities(state_dir: str, resource: str, since: datetime | None = None) -> list[Activity]:
    """What all nodes have done with a resource since then, the newest first."""
    first = iso(since)[:-1] if since else ""  # without the Z: it sorts before every fraction of that second
    found = readable(rows(state_dir, _DONE, (resource, first)), _activity)
    if since is not None:
        found = [one for one in found if one.started_at >= since]
    return sorted(found, key=lambda one: (one.started_at, one.name), reverse=True)


def with_pruned(state_dir: str, done: Sequence[Activity]) -> list[Activity]:
    """The same with what was pruned meanwhile; all are of one resource.

    Times are whole seconds, so it may be reported for several; of more than a few that went on at once of the last
    ones. What removes copies comes before what only reads them (a restore, a drill). Whatever a node says of itself,
    this takes no longer than to sort it.
    """
    if not done:
        return []
    first = iso(min(one.started_at for one in done))[:-1]
    begun = sorted(done, key=lambda one: one.started_at, reverse=True)
    under_way: dict[str, list[Activity]] = {}
    pruned: dict[tuple[str, str], list[PrunedCopy]] = {}
    for node, said_at, subject, body, copy in rows(state_dir, _PRUNED, (done[0].resource, first)):
        at = moment(said_at)
        if at is None:
            continue
        while begun and begun[-1].started_at <= at:
            under_way.setdefault(begun[-1].node, []).append(begun.pop())
        of_node = under_way.get(node, [])
        while of_node and of_node[-1].finished_at + _SECOND <= at:
            of_node.pop()
        at_work = [one for one in of_node[-_AT_ONCE:] if at < one.finished_at + _SECOND]
        for one in [one for one in at_work if one.what in _PRUNING] or at_work:
            pruned.setdefault((node, one.name), []).append(_gone(subject, body, copy))
    return [replace(one, pruned=tuple(pruned.get((one.node, one.name), ()))) for one in done]


def _record(config: Config, what: TaskKind, resource: str, draft: Draft, started_at: datetime) -> None:
    record(config, Activity(
        name="", what=what, resource=resource, node=config.node, outcome=draft.outcome, started_at=started_at,
        finished_at=datetime.now(UTC), because=tuple(draft.because), snapshot=draft.snapshot, place=draft.place,
        files=draft.files, bytes=draft.bytes,
    ))  # fmt: skip


def _gone(subject: str, body: str, copy: str | None) -> PrunedCopy:
    """What a `pruned` fact says of a copy; `copy` is the body of one that says what it was."""
    return PrunedCopy(subject.rpartition("/")[2], _texts(copy).get("target", ""), _texts(body).get("reason", ""))


def _texts(body: str | None) -> dict[str, str]:
    try:
        found = json.loads(body or "{}")
    except (ValueError, RecursionError):
        return {}
    return {key: one for key, one in found.items() if isinstance(one, str)} if isinstance(found, dict) else {}


class _TaskBody(EndedBody, frozen=True, kw_only=True):
    """What a body must have to describe a task."""

    task: TaskKind
    place: Any = ""
    files: Count = 0
    bytes: Count = 0


def _activity(fact: Fact) -> Activity | None:
    """What a fact says, or None: a task or an outcome of a newer version is none that is known here."""
    if fact.kind == RUN:
        return _of_run(fact)
    body = fitting(_TaskBody, fact.body)
    if body is None or (when := body.interval) is None:
        return None
    return Activity(
        name=fact.subject, what=body.task, resource=fact.resource, node=fact.node, outcome=body.outcome,
        started_at=when.started_at, finished_at=when.finished_at, because=texts(body.because),
        snapshot=line_of(body.snapshot), place=line_of(body.place), files=body.files, bytes=body.bytes,
    )  # fmt: skip


def _of_run(fact: Fact) -> Activity | None:
    run = run_from(fact)
    if run is None:
        return None
    files = [ended.files for _, ended in run.targets if ended.files is not None]
    sizes = [ended.bytes for _, ended in run.targets if ended.bytes is not None]
    return Activity(
        name=run.name, what=TaskKind.RUN, resource=run.resource, node=run.node, outcome=run.outcome,
        started_at=run.started_at, finished_at=run.finished_at, because=run.because, snapshot=run.snapshot,
        files=sum(files) if files else None, bytes=sum(sizes) if sizes else None,
        targets=run.targets, due_at=run.due_at,
    )  # fmt: skip
