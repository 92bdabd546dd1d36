"""`pin` and `unpin`: a snapshot whose copies are never pruned, on any target, by any node.

Both are facts, so that every node obeys once it has heard of them; a node that has not may still prune what its rules
drop. Nothing on a medium is touched.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup.catalog import pins, store, view
from drbdbackup.catalog.pins import NO_LABEL, Label
from drbdbackup.config.values import Config
from drbdbackup.errors import NothingFound
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.copies.choose import resolved

_LIST = "`drbdbackup list` shows what there is."


class PinAnswer(Struct, frozen=True):
    """A snapshot, its copies, what is said of it from now on, and by which roads the other nodes can learn of it.

    `closed` says why a road was closed.
    """

    snapshot: str
    resource: str
    copies: tuple[Copy, ...]
    label: Label
    roads: tuple[str, ...]
    closed: dict[str, str]


def pin(config: Config, snapshot: str, note: str) -> PinAnswer:
    """Pin the snapshot that is called so, or the only one whose name begins so; `note` says why, "" for nothing.

    Raises NothingFound, UsageError for a beginning of several names or for a note that is no single line.
    """
    copies = _copies(config, snapshot)
    one = copies[0]
    fact = pins.pinned(config.node, datetime.now(UTC), one.resource, one.snapshot, pins.checked_note(note))
    store.record(config.state_dir, config.node, [fact])
    return _told(config, copies)


def unpin(config: Config, snapshot: str) -> PinAnswer:
    """Leave it to retention again. Raises NothingFound, also where it is not pinned, and UsageError as above."""
    copies = _copies(config, snapshot)
    one = copies[0]
    label = pins.labels(config.state_dir, one.resource).get(one.snapshot, NO_LABEL)
    if not label.pins:
        raise NothingFound(f"{one.snapshot} is not pinned", _LIST)
    fact = pins.unpinned(config.node, datetime.now(UTC), one.resource, one.snapshot, label.pins)
    store.record(config.state_dir, config.node, [fact])
    return _told(config, copies)


def _copies(config: Config, snapshot: str) -> tuple[Copy, ...]:
    """The copies of the snapshot that is meant, once what the other nodes know was taken in."""
    roads.fetch_all(config)
    targets = [target.name for target in config.targets]
    known: list[Copy] = []
    for resource in config.resources:
        known += view.copies(config.state_dir, config.node, resource.name, targets, adopted=True)
        known += view.safety(config.state_dir, config.node, resource.name, targets)
    name = resolved(snapshot, known)
    found = tuple(copy for copy in known if copy.snapshot == name)
    if not found:
        raise NothingFound(f"no copy of {snapshot} is known here", _LIST)
    return found


def _told(config: Config, copies: tuple[Copy, ...]) -> PinAnswer:
    """Pass it on, and say what came of it."""
    went = roads.put_all(config, None, on_volume=False)
    one = copies[0]
    label = pins.labels(config.state_dir, one.resource).get(one.snapshot, NO_LABEL)
    return PinAnswer(one.snapshot, one.resource, copies, label, tuple(sorted(went.new)), went.closed)
