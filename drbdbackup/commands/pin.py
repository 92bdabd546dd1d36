"""`pin` and `unpin`: a snapshot whose copies are never pruned, on any target, by any node.

Both are facts. Every node obeys a pin once it has heard of it; a node that has not may still prune what its rules drop.
What takes back another node's pin counts here alone (see `catalog.pins`). Nothing on a medium is touched.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog import pins, store, view
from drbdbackup.catalog.pins import NO_LABEL, Label
from drbdbackup.config.values import Config
from drbdbackup.errors import NothingFound, UsageError
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.copies.choose import resolved

_LIST = "`drbdbackup list` shows what there is."


class PinAnswer(Struct, frozen=True, kw_only=True):
    """A snapshot, its copies, its label from now on, and by which roads the other nodes can learn of it.

    `closed` says why a road was closed, `held_by` which other nodes had pinned what is pinned no more here.
    """

    snapshot: str
    resource: str
    copies: tuple[Copy, ...]
    label: Label
    roads: tuple[str, ...]
    closed: dict[str, str]
    held_by: tuple[str, ...] = ()


def pin(config: Config, snapshot: str, note: str) -> PinAnswer:
    """Pin the snapshot that is called so, or the only one whose name begins so; `note` says why, "" for nothing.

    Raises NothingFound, UsageError for a beginning of several names, for a note that is no single line, or where this
    node has pinned as many as the others bear.
    """
    known = _known(config)
    copies = _copies_of(snapshot, known)
    one = copies[0]
    fact = pins.pinned(config.node, datetime.now(UTC), one.resource, one.snapshot, pins.checked_note(note))
    labels = pins.labels(config.state_dir, config.node, one.resource)
    there = {copy.snapshot for copy in known if copy.resource == one.resource}
    mine = {name for name in there if config.node in labels.get(name, NO_LABEL).pinned_by}
    if len(mine - {one.snapshot}) >= pins.MOST_PINNED:
        message = f"{config.node} has pinned {len(mine)} snapshots of {one.resource}, and the other nodes keep no more"
        raise UsageError(message, f"Unpin one first. {_LIST}")
    store.record(config.state_dir, config.node, [fact])
    return _publish(config, copies)


def unpin(config: Config, snapshot: str) -> PinAnswer:
    """Leave it to retention again. Raises NothingFound, also where it is not pinned, and UsageError as above."""
    copies = _copies_of(snapshot, _known(config))
    one = copies[0]
    label = pins.labels(config.state_dir, config.node, one.resource).get(one.snapshot, NO_LABEL)
    if not label.pins:
        raise NothingFound(f"{one.snapshot} is not pinned", _LIST)
    taken_back = [pin.id for pin in label.pins]
    fact = pins.unpinned(config.node, datetime.now(UTC), one.resource, one.snapshot, taken_back)
    store.record(config.state_dir, config.node, [fact])
    return replace(_publish(config, copies), held_by=tuple(sorted(label.pinned_by - {config.node})))


def _known(config: Config) -> list[Copy]:
    """All copies, once what the other nodes know was taken in."""
    catalog_exchange.fetch_all(config)
    known: list[Copy] = []
    for resource in config.resources:
        known += view.configured(config, resource.name, adopted=True)
        known += view.configured_safety(config, resource.name)
    return known


def _copies_of(snapshot: str, known: list[Copy]) -> tuple[Copy, ...]:
    """The copies of the snapshot that is meant."""
    name = resolved(snapshot, known)
    found = tuple(copy for copy in known if copy.snapshot == name)
    if not found:
        raise NothingFound(f"no copy of {snapshot} is known here", _LIST)
    return found


def _publish(config: Config, copies: tuple[Copy, ...]) -> PinAnswer:
    """Pass it on, and say what came of it."""
    went = catalog_exchange.put_all(config, None, on_volume=False)
    one = copies[0]
    label = pins.labels(config.state_dir, config.node, one.resource).get(one.snapshot, NO_LABEL)
    return PinAnswer(
        snapshot=one.snapshot, resource=one.resource, copies=copies, label=label, roads=tuple(sorted(went.new)),
        closed=went.closed,
    )  # fmt: skip
