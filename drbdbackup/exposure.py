"""If the volume were lost now: what is lost with it, and what is left to bring back, also without a node or a target.

Pure, over the copies that the catalogs of all nodes name. Only a copy that is whole and undamaged counts. It never
says how long something takes that nobody has measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import Enum

from msgspec import Struct

from drbdbackup.catalog.rates import Measured, Work
from drbdbackup.config.target_kinds import has_tree
from drbdbackup.config.values import Config
from drbdbackup.model.backup import Copy, Reach

_BEST = (Work.RESTORED, Work.VERIFIED, Work.COPIED)


class LossKind(Enum):
    """What may be gone beside the volume."""

    NOTHING = "nothing"
    NODE = "node"
    TARGET = "target"


class Without(Struct, frozen=True):
    """Gone with the volume: `kind` and `name` say what; `holder` is the node whose own disk a target is, else "".

    `also` is gone, too.
    """

    kind: LossKind
    name: str = ""
    holder: str = ""
    also: Without | None = None

    def takes(self, copy: Copy) -> bool:
        """Whether a copy goes with it."""
        if self.also is not None and self.also.takes(copy):
            return True
        if self.kind is LossKind.NODE:
            return copy.holder == self.name
        return self.kind is LossKind.TARGET and (copy.target, copy.holder) == (self.name, self.holder)

    def has_node(self, node: str) -> bool:
        """Whether that node is gone."""
        is_it = (self.kind, self.name) == (LossKind.NODE, node)
        return is_it or (self.also is not None and self.also.has_node(node))


class Estimate(Struct, frozen=True):
    """Restoring takes about so many `seconds`, at the rate that was `measured`."""

    seconds: float
    measured: Measured


class Left(Struct, frozen=True):
    """What is left then: the nearest copy of the newest snapshot, None for nothing at all.

    `lost` is the time since that one was begun. `lacking` is a newer copy that is not damaged, but lacks files.
    """

    without: Without
    copy: Copy | None = None
    reach: Reach = Reach.UNKNOWN
    lost: timedelta | None = None
    lacking: Copy | None = None
    estimate: Estimate | None = None


class Known(Struct, frozen=True):
    """What the answer is made of: the copies of one line, newest first, and whether each can be read by `node`."""

    node: str
    now: datetime
    copies: Sequence[tuple[Copy, Reach]]
    measured: Sequence[Measured] = ()


def losses(config: Config) -> Iterator[Without]:
    """The volume alone, each node (this one first), each share, and this node's disks."""
    yield Without(LossKind.NOTHING)
    for node in sorted(config.nodes, key=lambda name: name != config.node):
        yield Without(LossKind.NODE, node)
    for target in config.targets:
        yield Without(LossKind.TARGET, target.name, target.holder(config.node))


def left(known: Known, without: Without) -> Left:
    """What is left of the copies, as seen from this node; if that is what is gone, as the others will see it."""
    reader = "" if without.has_node(known.node) else known.node
    sound = [one for one in known.copies if not without.takes(one[0]) and one[0].damaged_at is None]
    whole = [one for one in sound if not one[0].problems]
    lacking = sound[0][0] if sound and sound[0][0].problems else None
    if not whole:
        return Left(without, lacking=lacking)
    same = [(copy, _seen(copy, reach, reader)) for copy, reach in whole if copy.snapshot == whole[0][0].snapshot]
    copy, reach = min(same, key=lambda one: (_readiness(*one), _distance(one[0], reader)))
    lost = max(known.now - _begun(copy, known.copies), timedelta())
    return Left(without, copy, reach, lost, lacking, _estimate(copy, reader, known.measured))


def _begun(copy: Copy, copies: Sequence[tuple[Copy, Reach]]) -> datetime:
    """When it was begun at the latest: not after any that comes behind it, whatever its node's clock said."""
    return min(one.started_at for one, _ in copies if one.sequence >= copy.sequence)


def _seen(copy: Copy, reach: Reach, reader: str) -> Reach:
    """Whether it can be read. What another node sees of a share is not known from here."""
    return Reach.UNKNOWN if not reader and not copy.holder else reach


def _readiness(copy: Copy, reach: Reach) -> int:
    """What can be read comes first, and last a share that was looked at in vain: a disk may only be asleep."""
    if reach is Reach.YES:
        return 0
    return 2 if reach is Reach.NO and not copy.holder else 1


def _distance(copy: Copy, reader: str) -> int:
    """An own disk, a share, a disk of another node, an engine; without this node each disk is its holder's own."""
    if not has_tree(copy.kind):
        return 3
    return 0 if copy.holder == (reader or copy.holder) and copy.holder else 1 if not copy.holder else 2


def _estimate(copy: Copy, reader: str, measured: Sequence[Measured]) -> Estimate | None:
    """By the newest restore from that medium over that way; else by a verify, or by how it was made (on its node)."""
    over_ssh = copy.holder not in ("", reader or copy.holder)
    fitting = [one for one in measured if one.medium == copy.medium and one.over_ssh == over_ssh]
    for work in _BEST:
        for one in fitting:
            seconds = one.estimate(copy) if one.work is work else None
            if seconds is not None:
                return Estimate(seconds, one)
    return None
