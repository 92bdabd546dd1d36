"""A restore over the live volume: what is done around it, in an order that can be interrupted anywhere.

Write down that it begins; stop the services; see who else writes there; keep what is there; write down that it is being
replaced; bring the copy; write down that it is there; start the services; forget. As long as nothing was replaced a
failure starts the services again. On half a volume nothing is ever started: `--resume` goes on, from either node.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drbdbackup import proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import DrbdBackupError, Interrupted, NothingFound, Unguarded
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.restoring import RESUME, Restoring, Stage
from drbdbackup.pipeline import fence, safety, services, unfinished
from drbdbackup.pipeline.source import identity
from drbdbackup.pipeline.unfinished import Book
from drbdbackup.pipeline.watching import Watcher
from drbdbackup.tools import mounts, openers
from drbdbackup.tools.openers import Opener

_BUSY = 5  # processes that are named
_GO_THERE = "`drbdbackup status` on the node that is Primary now tells how far it came."


@dataclass(frozen=True, slots=True)
class Over:
    """What to bring over which volume: `copy`, of it `path` ("" for all); `keep` wants a safety copy first.

    `before` is the unfinished restore that was found there, `resume` that this goes on with it.
    """

    config: Config
    resource: ResourceConfig
    copy: Copy
    path: str
    keep: bool
    before: Restoring | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Around:
    """What came of what was done around it: the safety copy, and what is wrong with which services.

    `left` says that they were left stopped, because the volume is not what it is to be.
    """

    kept: Copy | None = None
    services: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    left: bool = False


NOTHING = Around()


def busy(config: Config, resource: ResourceConfig, path: str) -> tuple[Opener, ...]:
    """Who has files open on the volume, or on that part of it. Raises Stalled."""
    own = os.getpid()
    found = proc.probe(lambda: openers.look(resource.source, path, own), config.limits.probe, resource.source)
    return tuple(map(openers.opener, found))


def unfinished_before(config: Config, resource: ResourceConfig, path: str, *, resume: bool) -> Restoring | None:
    """The unfinished restore that is there. Raises DrbdBackupError where this one must not go over it."""
    before = unfinished.on_volume(config, resource)
    if before is not None and before.is_half and path and not resume:
        raise DrbdBackupError(f"{before.told}; a single path does not make it whole", RESUME)
    return before


def over(what: Over, watcher: Watcher, bring: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Around]:
    """Do it all; `bring` is the restore itself. Raises what it raises, with a hint how to go on, and Interrupted."""
    config, resource, before = what.config, what.resource, what.before
    services.check(resource)
    is_half = before is not None and before.is_half
    mounted = _mounted(resource)
    book = Book(config, resource, _begun(what))
    book.enter(Stage.REPLACING if is_half else Stage.BEGUN)
    try:
        kept = _prepared(what, watcher)
        book.enter(Stage.REPLACING, safety=kept.snapshot if kept else "")
    except Interrupted:
        raise  # the volume goes away, and who takes it over starts what belongs there
    except (DrbdBackupError, OSError) as error:
        wrong = _left_alone(what, book, mounted, error)
        if isinstance(error, DrbdBackupError):
            error.hint = _joined(error.hint, *wrong)
        raise
    try:
        done = _brought(config, resource, bring, kept)
    except Unguarded as error:  # the destination is guarded before anything is written
        wrong = _left_alone(what, book, mounted, error)
        error.hint = _joined(error.hint, *wrong, _how_to_go_on(resource, kept) if is_half else "")
        raise
    if done["problem_count"]:
        return done, Around(kept, resource.services, left=True)
    book.enter(Stage.RESTORED)
    return done, Around(kept, resource.services, _finished(config, resource, book))


def finish(config: Config, resource: ResourceConfig, before: Restoring) -> tuple[str, ...]:
    """Take the volume as it is: start the services and forget the restore; what is wrong with which service."""
    services.check(resource)
    return _finished(config, resource, Book(config, resource, before))


def interrupted(config: Config, resource: ResourceConfig) -> Restoring:
    """The restore to go on with. Raises NothingFound."""
    before = unfinished.on_volume(config, resource)
    if before is None:
        raise NothingFound(f"no restore in place of {resource.name} was interrupted", "`drbdbackup restore --in-place`")
    return before


def _mounted(resource: ResourceConfig) -> dict[str, str] | None:
    return identity(mounts.mounted_at(mounts.table(), resource.source))


def _begun(what: Over) -> Restoring:
    """How it is written down: one that goes on keeps its name."""
    before, node, now = what.before, what.config.node, datetime.now(UTC)
    name = before.name if before and what.resume else f"{snapshot_name(now, node)}-{os.getpid()}"
    kept = before.safety if before and before.is_half else ""
    begun_at = before.begun_at if before and what.resume else now
    return Restoring(name, what.resource.name, node, Stage.BEGUN, what.copy.snapshot, what.path, begun_at, kept)


def _prepared(what: Over, watcher: Watcher) -> Copy | None:
    """The volume at rest, and what is there kept. Half a volume is not kept again: it was before it became that."""
    services.stop(what.config, what.resource)
    _refuse_writers(what)
    is_half = what.before is not None and what.before.is_half
    return safety.keep(what.config, what.resource, watcher) if what.keep and not is_half else None


def _refuse_writers(what: Over) -> None:
    """Who holds a file open to write would go on writing into what was replaced."""
    writers = [one for one in busy(what.config, what.resource, what.path) if one.writes]
    if writers:
        more = f" and {len(writers) - _BUSY} more" if len(writers) > _BUSY else ""
        named = ", ".join(map(str, writers[:_BUSY]))
        hint = f"Stop them, or name them in [resource.{what.resource.name}] services. Nothing was replaced."
        raise DrbdBackupError(f"there is still writing to {what.resource.source}: {named}{more}", hint)


def _brought(
    config: Config, resource: ResourceConfig, bring: Callable[[], dict[str, Any]], kept: Copy | None
) -> dict[str, Any]:
    """The restore itself; the cluster's agent is told that the volume is in use, and tells us when it has to go."""
    fence.hold(config.state_dir)
    try:
        return bring()
    except Unguarded:
        raise
    except DrbdBackupError as error:
        error.hint = _joined(error.hint, _how_to_go_on(resource, kept))
        raise
    finally:
        fence.let_go(config.state_dir)


def _left_alone(what: Over, book: Book, mounted: dict[str, str] | None, error: Exception) -> tuple[str, ...]:
    """Nothing was written: start the services, unless the volume was half restored before; what is wrong with which.

    Raises Interrupted where the volume has gone away meanwhile: here nothing is started any more.
    """
    if _mounted(what.resource) != mounted:
        raise Interrupted(f"{what.resource.source} was unmounted meanwhile: {error}", _GO_THERE) from None
    is_half = what.before is not None and what.before.is_half
    return () if is_half else _finished(what.config, what.resource, book)


def _finished(config: Config, resource: ResourceConfig, book: Book) -> tuple[str, ...]:
    """Start the services, then forget; a record that cannot be removed says that all is back, which does no harm."""
    problems = services.start(config, resource)
    with suppress(DrbdBackupError):
        book.end()
    return problems


def _joined(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def _how_to_go_on(resource: ResourceConfig, kept: Copy | None) -> str:
    stopped = f" {', '.join(resource.services)} stay stopped until then." if resource.services else ""
    where = f" What was there before is {kept.snapshot} at {kept.location}." if kept else ""
    return f"The volume is half restored. {RESUME}{stopped}{where}"
