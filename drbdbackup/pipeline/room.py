"""Room on a target before a copy: older copies make way, as many as are needed, in the order that they are named.

Works inside the copy's cage. Which copies may go is the supervisor's word; this only looks whether one more has to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from drbdbackup.errors import DrbdBackupError, TargetFull, ToolError
from drbdbackup.model.amount import size
from drbdbackup.pipeline import leftovers, prune
from drbdbackup.pipeline.bases import left_behind, newest_base, trust
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.foresee import Foreseen, Space, foresee, shortage, space
from drbdbackup.pipeline.opening import Opened
from drbdbackup.pipeline.plan import Planner
from drbdbackup.scan import Spool
from drbdbackup.targets import layout, removal
from drbdbackup.tools import btrfs

_INODE = 512  # bytes, and less than that for a manifest's line
FULL = (errno.ENOSPC, errno.EDQUOT)
HINT = "Remove something there, let it keep fewer copies ([retention]), or give it more room."
_REPLACE_HINT = 'Where another target holds a copy, on_full = "replace" lets this one give its last copy up.'


@dataclass(slots=True)
class Making:
    """Room that is being made: the job, the opened target, and what is foreseen with what it links from now."""

    job: dict[str, Any]
    channel: Channel
    at: Opened
    foreseen: Foreseen
    told: dict[str, Any]

    @property
    def space(self) -> Space:
        """What is free now."""
        return space(self.at.medium)

    @property
    def fits(self) -> bool:
        """Whether the copy should fit by now."""
        return self.foreseen.laid_out <= self.space.free

    def drop(self, snapshot: str, reason: str) -> None:
        """Have a copy go, and its room come back."""
        with self.channel.beating():
            prune.drop(self.at, self.job["resource"], [(snapshot, reason)], self.channel)
            if self.at.abilities.subvolumes:
                layout.sync(self.at.root)
                with suppress(ToolError):
                    btrfs.await_deletions(self.at.root)
                layout.sync(self.at.root)  # what was freed can be written to after a commit only


def make(job: dict[str, Any], channel: Channel, at: Opened) -> None:
    """See that there is room for the job's copy. Raises TargetFull where it is certain that there cannot be."""
    if space(at.medium).free > _ample(job["source"]):
        return
    making = _foreseen(job, channel, at)
    if not making.fits and leftovers.removable(at.root, job):
        with channel.beating():
            prune.sweep(at, job)  # they save work, but no room
        making = _foreseen(job, channel, at)
    if making.fits:
        return
    channel.tell("short", **making.told)
    for snapshot, reason in channel.hear()["drop"]:
        making.drop(snapshot, reason)
        if making.fits:
            return
    if at.medium.config.on_full == "replace":
        _give_up(making)
    elif making.space.refuses(making.foreseen):
        hint = f"{HINT} {_REPLACE_HINT}" if at.medium.config.kind == "disk" else HINT
        raise TargetFull(missing(making.foreseen, making.space), hint)


def missing(foreseen: Foreseen, there: Space) -> str:
    """How much room there is not, in words."""
    lacks = max(foreseen.laid_out - there.free, 0)
    return f"the copy needs {size(foreseen.laid_out)} and {size(there.free)} are free: {size(lacks)} are missing"


@contextmanager
def cleared_when_full(fresh: str) -> Iterator[None]:
    """Around a copy: one that does not fit is removed at once, so that it does not keep the target full."""
    try:
        yield
    except (TargetFull, OSError) as error:
        if isinstance(error, TargetFull) or error.errno in FULL:
            with suppress(DrbdBackupError, OSError):
                removal.remove_tree(os.path.dirname(fresh), os.fsencode(os.path.basename(fresh)))
        raise


def _give_up(making: Making) -> None:
    """Have the last copies go too, the base of the new one at last; the supervisor must agree first.

    Raises TargetFull, with everything still there, unless it agrees and the new copy will fit then.
    """
    job, at = making.job, making.at
    there = layout.snapshots(at.root, job["resource"])
    short = missing(making.foreseen, making.space)
    full = _foreseen(job, making.channel, at, from_base=False)
    comes_back = max((told.bytes for told in there), default=0)
    most = min(making.space.total, making.space.free + comes_back)
    if full.foreseen.laid_out > most:
        raise TargetFull(
            f"{short}; a copy alone needs {size(full.foreseen.laid_out)}, and there is room for about {size(most)}",
            "Its medium is too small for a whole copy: give it more room, or leave more out (exclude).",
        )
    making.channel.tell("stuck", **making.told)
    if why := making.channel.hear()["why"]:
        raise TargetFull(f"{short}; its last copies were not given up: {why}", HINT)
    base = making.told["base"]
    for told in sorted(there, key=lambda told: told.snapshot == base):
        if told.snapshot == base:
            making.foreseen = full.foreseen
        making.channel.tell("giving_up", snapshot=told.snapshot)
        making.channel.hear()  # it is written down by now: from here on nobody counts on that copy
        making.drop(told.snapshot, "given up for a newer one: the target has no room for both")
        if making.fits:
            return
    if making.space.refuses(making.foreseen):
        raise TargetFull(missing(making.foreseen, making.space), HINT)


def _ample(source: str) -> int:
    """Bytes with which there is no shortage: all that the source's file system holds, inodes, manifest, and some."""
    seen = os.statvfs(source)
    blocks = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    return blocks + (seen.f_files - seen.f_ffree) * _INODE + blocks // 50


def _foreseen(job: dict[str, Any], channel: Channel, at: Opened, *, from_base: bool = True) -> Making:
    """What the copy needs, linked from what lies there; without `from_base` as if nothing did."""
    can = at.abilities
    with ExitStack() as stack:
        bases = []
        if from_base and (can.hard_links or can.subvolumes):
            trusted = trust(job["damaged"], job["verified"])
            newest = newest_base(at.root, job["resource"], trusted, can.as_document(), stack)
            bases += [newest] if newest else []
        if from_base and can.hard_links and not can.subvolumes:
            bases += left_behind(at.root, job, "", can.as_document(), stack)
        spool, there = Spool(job["spool"], job["patience"]), space(at.medium)
        found = foresee(
            spool, Planner(bases, at.holdable, at.names), bases, source=job["source"], block=there.block,
            tell=lambda _: channel.tell("alive"),
        )  # fmt: skip
        return Making(job, channel, at, found, shortage(found, there, bases, spool))
