"""Room on a target before a copy: older copies make way, as many as are needed, in the order that they are named.

Works inside the copy's cage. Which copies may go is the supervisor's word; this only looks whether one more has to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol

from msgspec import Struct

from drbdbackup.errors import Failure, TargetFull, ToolError
from drbdbackup.model.amount import size
from drbdbackup.pipeline.cage.protocol import Alive
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.snapshot.copy_protocol import (
    GivingUp,
    LastCopies,
    MakeRoom,
    Noted,
    Room,
    Short,
    Stuck,
    TargetFacts,
)
from drbdbackup.pipeline.snapshot.estimate import CopyEstimate, Space, estimate_copy, shortage, space
from drbdbackup.pipeline.snapshot.link_sources import left_behind, newest_base
from drbdbackup.pipeline.snapshot.plan import Planner
from drbdbackup.pipeline.target import remove_snapshots, unfinished_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget
from drbdbackup.pipeline.target.target_protocol import TargetJob
from drbdbackup.scan import Spool
from drbdbackup.targets import layout, removal
from drbdbackup.tools import btrfs

_FEW_INODES = 8
_INODE = 512  # bytes, and less than that for a manifest's line
FULL = (errno.ENOSPC, errno.EDQUOT)
HINT = "Remove something there, let it keep fewer copies ([retention]), or give it more room."
_REPLACE_HINT = 'Where another target holds a copy, on_full = "replace" lets this one give its last copy up.'


class Coming(Protocol):
    """A copy that is to be made: what `CopyJob` says of it."""

    @property
    def resource(self) -> str:
        """Of which resource it is."""

    @property
    def about(self) -> TargetFacts:
        """What the catalog says of its target."""

    @property
    def source(self) -> str:
        """The tree that it comes from: large files are looked at there, for their holes."""

    @property
    def spool(self) -> str:
        """The file with its entries."""

    @property
    def patience(self) -> float:
        """Seconds that the spool may say nothing."""

    @property
    def scratch(self) -> str:
        """A folder of the job's own."""

    @property
    def to_open(self) -> TargetJob:
        """What is needed to open its target."""


class RoomPlan(Struct):
    """Room that is being made: the copy, the opened target, and what is foreseen with what it links from now."""

    job: Coming
    channel: Channel
    at: OpenTarget
    estimate: CopyEstimate
    needs: Room

    @property
    def space(self) -> Space:
        """What is free now."""
        return space(self.at.medium)

    @property
    def fits(self) -> bool:
        """Whether the copy should fit by now."""
        return self.estimate.laid_out <= self.space.free

    def drop(self, snapshot: str, reason: str) -> None:
        """Have a copy go, and its room come back."""
        with self.channel.beating():
            remove_snapshots.drop(self.at, self.job.resource, [(snapshot, reason)], self.channel)
            if self.at.abilities.subvolumes:
                layout.sync(self.at.root)
                with suppress(ToolError):
                    btrfs.await_deletions(self.at.root)
                layout.sync(self.at.root)  # what was freed can be written to after a commit only


def make_room(job: Coming, channel: Channel, at: OpenTarget) -> None:
    """See that there is room for a copy of a whole file system: where that has no more than is free, at once.

    Raises TargetFull where it is certain that there cannot be.
    """
    if space(at.medium).free <= _ample(job.source):
        make_room_for(job, channel, at)


def make_room_for(job: Coming, channel: Channel, at: OpenTarget) -> None:
    """The same for a copy whose source says nothing about its size: every entry is looked at. Raises TargetFull."""
    room = _estimated(job, channel, at)
    if not room.fits and unfinished_snapshots.removable(at.root, job.to_open.removal):
        with channel.beating():
            remove_snapshots.sweep(at, job.to_open.removal)  # they save work, but no room
        room = _estimated(job, channel, at)
    if room.fits:
        return
    channel.send(Short(room.needs))
    for snapshot, reason in channel.receive(MakeRoom).drop:
        room.drop(snapshot, reason)
        if room.fits:
            return
    if at.medium.config.on_full == "replace":
        _give_up(room)
    elif room.space.refuses(room.estimate):
        hint = f"{HINT} {_REPLACE_HINT}" if at.medium.config.can_replace else HINT
        raise TargetFull(missing(room.estimate, room.space), hint)


def missing(estimate: CopyEstimate, there: Space) -> str:
    """How much room there is not, in words."""
    lacks = max(estimate.laid_out - there.free, 0)
    return f"the copy needs {size(estimate.laid_out)} and {size(there.free)} are free: {size(lacks)} are missing"


@contextmanager
def cleared_when_full(fresh: str) -> Iterator[None]:
    """Around a copy: one that does not fit is removed at once, so that it does not keep the target full."""
    try:
        yield
    except (TargetFull, OSError) as error:
        if not isinstance(error, TargetFull) and error.errno not in FULL:
            raise
        explained = _full(fresh, error)  # before there is room again
        with suppress(Failure, OSError):
            removal.remove_tree(os.path.dirname(fresh), os.fsencode(os.path.basename(fresh)))
        raise explained from None


def _full(folder: str, error: TargetFull | OSError) -> TargetFull | OSError:
    """The error, or one that says that there are no inodes, if that is so. The state folder may be what is full."""
    with suppress(OSError):
        seen = os.statvfs(folder)
        if seen.f_files and seen.f_favail <= _FEW_INODES:
            hint = "Remove files there, let it keep fewer copies, or make its file system with more inodes."
            return TargetFull(f"no inodes are left on the target: all {seen.f_files} are in use", hint)
    return error


def _give_up(room: RoomPlan) -> None:
    """Have the last copies go too, the base of the new one at last; the supervisor must agree first.

    Raises TargetFull, with everything still there, unless it agrees and the new copy will fit then.
    """
    job, at = room.job, room.at
    there = layout.snapshots(at.root, job.resource)
    short = missing(room.estimate, room.space)
    full = _estimated(job, room.channel, at, from_base=False)
    comes_back = max((copy.bytes for copy in there), default=0)
    most = min(room.space.total, room.space.free + comes_back)
    if full.estimate.laid_out > most:
        raise TargetFull(
            f"{short}; a copy alone needs {size(full.estimate.laid_out)}, and there is room for about {size(most)}",
            "Its medium is too small for a whole copy: give it more room, or leave more out (exclude).",
        )
    room.channel.send(Stuck(room.needs))
    if why := room.channel.receive(LastCopies).kept_because:
        raise TargetFull(f"{short}; its last copies were not given up: {why}", HINT)
    base = room.needs.base
    for copy in sorted(there, key=lambda copy: copy.snapshot == base):
        if copy.snapshot == base:
            room.estimate = full.estimate
        room.channel.send(GivingUp(copy.snapshot))
        room.channel.receive(Noted)  # it is written down by now: from here on nobody counts on that copy
        room.drop(copy.snapshot, "given up for a newer one: the target has no room for both")
        if room.fits:
            return
    if room.space.refuses(room.estimate):
        raise TargetFull(missing(room.estimate, room.space), HINT)


def _ample(source: str) -> int:
    """Bytes with which there is no shortage: all that the source's file system holds, inodes, manifest, and some."""
    seen = os.statvfs(source)
    blocks = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    return blocks + (seen.f_files - seen.f_ffree) * _INODE + blocks // 50


def _estimated(job: Coming, channel: Channel, at: OpenTarget, *, from_base: bool = True) -> RoomPlan:
    """What the copy needs, linked from what lies there; without `from_base` as if nothing did."""
    can = at.abilities
    with ExitStack() as stack:
        bases = []
        if from_base and (can.hard_links or can.subvolumes):
            backups = layout.snapshots(at.root, job.resource)
            newest = newest_base(at.root, backups, job.about, can.as_document(), stack, job.scratch)
            bases += [newest] if newest else []
        if from_base and can.hard_links and not can.subvolumes:
            bases += left_behind(
                at.root, job.resource, "", can.as_document(), stack, job.about, job.scratch,
            )
        spool, there = Spool(job.spool, job.patience), space(at.medium)
        found = estimate_copy(
            spool, Planner(bases, at.abilities.kinds, at.names), bases, source=job.source, block=there.block,
            tell=lambda _: channel.send(Alive()),
        )  # fmt: skip
        return RoomPlan(job, channel, at, found, shortage(found, there, bases, spool))
