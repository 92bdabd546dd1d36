"""A restore over the live volume: what is done around it, in an order that can be interrupted anywhere.

1. The record says that it has begun, and the services are stopped.
2. A process that still writes there refuses it. A safety copy is made.
3. The job opens copy and volume. The record says that the volume is being replaced, and the job replaces it.
4. The record says that all is back, the services are started, and the record is removed.

A failure before the volume was replaced starts the services again. After that nothing is ever started on half a
volume: `--resume` goes on, from either node.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import (
    DrbdBackupError,
    Failure,
    Interrupted,
    NothingFound,
    RestoreUnfinished,
    VolumeInUse,
)
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.mount import MountIdentity
from drbdbackup.model.restoring import RESUME, RestoreStage, Restoring
from drbdbackup.pipeline.backup import safety_copy
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.restore import services
from drbdbackup.pipeline.restore.restore_protocol import RestoreResult
from drbdbackup.pipeline.volume import in_use, restore_record
from drbdbackup.pipeline.volume.guard import mounted_now
from drbdbackup.pipeline.volume.restore_record import RestoreRecord
from drbdbackup.tools import openers
from drbdbackup.tools.openers import Opener

_BUSY = 5  # processes that are named
_GO_THERE = "`drbdbackup status` on the node that is Primary now tells how far it came."


class InPlace(Struct, frozen=True, kw_only=True):
    """What to restore over which volume: `copy`, of it `path` ("" for all); with `keep` a safety copy is made first.

    `before` is the unfinished restore that was found there, `resume` that this goes on with it.
    """

    config: Config
    resource: ResourceConfig
    copy: Copy
    path: str
    keep: bool
    before: Restoring | None = None
    resume: bool = False


class InPlaceOutcome(Struct, frozen=True):
    """What came of what was done around it: the safety copy, and what is wrong with which services.

    `left` says that they were left stopped, because the volume is not what it is to be.
    """

    kept: Copy | None = None
    services: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    left: bool = False


NOTHING = InPlaceOutcome()


def busy(config: Config, resource: ResourceConfig, path: str) -> tuple[Opener, ...]:
    """Who has files open on the volume, or on that part of it. Raises Stalled, VolumeInUse."""
    own = os.getpid()
    deadline = config.limits.probe + openers.PATIENCE
    found = proc.probe(lambda: openers.look(resource.source, path, own), deadline, resource.source)
    return tuple(map(openers.opener, found))


def unfinished_before(config: Config, resource: ResourceConfig, path: str, *, resume: bool) -> Restoring | None:
    """The unfinished restore that is there. Raises DrbdBackupError where this one must not go over it."""
    before = restore_record.on_volume(config, resource)
    if before is not None and before.is_half and path and not resume:
        raise RestoreUnfinished(f"{before.description}; a single path does not make it whole", RESUME)
    return before


def will_keep(before: Restoring | None, *, is_wanted: bool) -> bool:
    """Whether a safety copy is made first. Half a volume is not kept again: it was before it became that."""
    return is_wanted and not (before is not None and before.is_half)


def restore_in_place(
    what: InPlace, watcher: Watcher, restore: Callable[[Callable[[], None]], RestoreResult]
) -> tuple[RestoreResult, InPlaceOutcome]:
    """Do it all; `restore` is the restore itself, which calls what it is given before it replaces anything.

    Raises what it raises, with a hint how to go on, and Interrupted.
    """
    config, resource, before = what.config, what.resource, what.before
    services.check(resource)
    is_half = before is not None and before.is_half
    mounted = mounted_now(resource.source)
    record = RestoreRecord(config, resource, _begun(what))
    record.enter(RestoreStage.REPLACING if is_half else RestoreStage.BEGUN)
    kept, is_whole = None, True

    def replacing() -> None:
        nonlocal is_whole
        record.enter(RestoreStage.REPLACING, safety=kept.snapshot if kept else "")
        is_whole = False

    try:
        kept = _prepared(what, watcher)
        done = _restored(config, restore, replacing)
    except (DrbdBackupError, OSError) as error:
        hints: list[str] = []
        # Where the volume goes away, who takes it over starts what belongs there.
        if is_whole and not isinstance(error, Interrupted):
            hints += _left_alone(what, record, mounted, error)
        if is_half or not is_whole:
            hints.append(_how_to_go_on(resource, kept))
        if isinstance(error, DrbdBackupError):
            error.hint = _joined(error.hint, *hints)
        raise
    if done.problem_count:
        return done, InPlaceOutcome(kept, resource.services, left=True)
    record.enter(RestoreStage.RESTORED)
    return done, InPlaceOutcome(kept, resource.services, _finished(config, resource, record))


def finish(config: Config, resource: ResourceConfig, before: Restoring) -> tuple[str, ...]:
    """Take the volume as it is: start the services and forget the restore; what is wrong with which service."""
    services.check(resource)
    return _finished(config, resource, RestoreRecord(config, resource, before))


def interrupted(config: Config, resource: ResourceConfig) -> Restoring:
    """The restore to go on with. Raises NothingFound."""
    before = restore_record.on_volume(config, resource)
    if before is None:
        raise NothingFound(f"no restore in place of {resource.name} was interrupted", "There is nothing to do.")
    return before


def _begun(what: InPlace) -> Restoring:
    """How it is written down: one that goes on keeps its name."""
    before, node, now = what.before, what.config.node, datetime.now(UTC)
    name = before.name if before and what.resume else f"{snapshot_name(now, node)}-{os.getpid()}"
    kept = before.safety if before and before.is_half else ""
    begun_at = before.begun_at if before and what.resume else now
    return Restoring(
        name=name, resource=what.resource.name, node=node, stage=RestoreStage.BEGUN, snapshot=what.copy.snapshot,
        path=what.path, begun_at=begun_at, safety=kept,
    )


def _prepared(what: InPlace, watcher: Watcher) -> Copy | None:
    """The volume at rest, and what is there kept."""
    services.stop(what.config, what.resource)
    _refuse_writers(what)
    return safety_copy.keep(what.config, what.resource, watcher) if what.keep else None


def _refuse_writers(what: InPlace) -> None:
    """Who holds a file open to write would go on writing into what was replaced."""
    writers = [one for one in busy(what.config, what.resource, what.path) if one.writes]
    if writers:
        more = f" and {len(writers) - _BUSY} more" if len(writers) > _BUSY else ""
        named = ", ".join(map(str, writers[:_BUSY]))
        hint = f"Stop them, or name them in [resource.{what.resource.name}] services. Nothing was replaced."
        raise VolumeInUse(f"these processes still write to {what.resource.source}: {named}{more}", hint)


def _restored(
    config: Config, restore: Callable[[Callable[[], None]], RestoreResult], replacing: Callable[[], None]
) -> RestoreResult:
    """The restore itself; the cluster's agent learns that the volume is in use, and says when it has to go."""
    in_use.mark_in_use(config.state_dir)
    try:
        return restore(replacing)
    finally:
        in_use.clear_in_use(config.state_dir)


def _left_alone(
    what: InPlace, record: RestoreRecord, mounted: MountIdentity | None, error: Exception
) -> tuple[str, ...]:
    """Nothing was written: start the services, unless the volume was half restored before; what is wrong with which.

    Raises Interrupted where the volume has gone away meanwhile: here nothing is started any more.
    """
    if mounted_now(what.resource.source) != mounted:
        raise Interrupted(f"{what.resource.source} was unmounted meanwhile: {error}", _GO_THERE) from None
    is_half = what.before is not None and what.before.is_half
    return () if is_half else _finished(what.config, what.resource, record)


def _finished(config: Config, resource: ResourceConfig, record: RestoreRecord) -> tuple[str, ...]:
    """Start the services, then forget; a record that cannot be removed says that all is back, which does no harm."""
    problems = services.start(config, resource)
    with suppress(Failure):
        record.end()
    return problems


def _joined(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def _how_to_go_on(resource: ResourceConfig, kept: Copy | None) -> str:
    stopped = f" {', '.join(resource.services)} stay stopped until then." if resource.services else ""
    where = f" What was there before is {kept.snapshot} at {kept.location}." if kept else ""
    return f"The volume is half restored. {RESUME}{stopped}{where}"
