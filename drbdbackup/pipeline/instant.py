"""One instant of the volume to copy from: a short-lived LVM snapshot of the disk below DRBD, for the time of one run.

It is as the volume would be found after a power cut at that moment, so its journal is replayed when it is mounted. What
was changed before the flush is all in it. It is removed at every end of the run, and what a kill left by the next one.
It is only made of a disk that DRBD calls UpToDate: any other holds old data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import DrbdBackupError, Interrupted, PartialResult, SourceError, Stopped, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Decision, Disk
from drbdbackup.pipeline import backing, sweep
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.backing import Backing
from drbdbackup.pipeline.cage import Cage
from drbdbackup.pipeline.fence import Fence
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.roads import surroundings
from drbdbackup.pipeline.source import identity
from drbdbackup.tools import lvm, mounts

KIND = "lvm"
IN_USE = 10.0  # seconds that ended processes may take to let go of a snapshot
_POLL = 0.2
_MAKES_UP = "The new Primary makes up for it."


@dataclass(frozen=True, slots=True)
class Instant:
    """A snapshot that is there. `device` is its path, `at` the folder at which each cage mounts it for itself.

    `started_ns`: what changed before that is in it. `left_out` are the mount points in the live volume, from its top.
    """

    backing: Backing
    name: str
    device: str
    at: str
    fstype: str
    started_ns: int
    left_out: Sequence[str]

    def as_document(self) -> dict[str, Any]:
        """What a caged job is told of it (see `source.guarded`)."""
        return {
            "kind": KIND, "device": self.device, "fstype": self.fstype, "started_ns": self.started_ns,
            "left_out": list(self.left_out),
        }  # fmt: skip

    def explained(self, error: DrbdBackupError) -> DrbdBackupError:
        """What went wrong with a reader of it: that the snapshot ran over, if it did."""
        with suppress(ToolError):
            return self._spoilt() or error
        return error

    def spoilt(self) -> DrbdBackupError | None:
        """Why what was read of it until now cannot be trusted; to be asked after the last read. Doubt counts."""
        try:
            return self._spoilt()
        except ToolError as error:
            return SourceError(f"whether the LVM snapshot was whole cannot be told: {error.message}", error.hint)

    def _spoilt(self) -> SourceError | None:
        found = self.backing.named(self.name)
        if found is None:
            hint = "Somebody else has removed it: find out who, and run it again."
            return SourceError(f"the LVM snapshot {self.name} is gone", hint)
        if found.is_invalid or found.used >= 1:
            told = f"the LVM snapshot {found.full_name} ran over: more was written to the volume than it has room for"
            return SourceError(told, f"Give it more: snapshot_size in [resource.{self.backing.resource.name}].")
        return None


@contextmanager
def taken(order: Order, wrong: list[DrbdBackupError]) -> Iterator[None]:
    """For the block: the order's `instant`, where the resource is to be copied from one; else nothing is done.

    Where the disk here is not up to date the volume itself is copied, and the order's notes say so. What went wrong
    with the removal goes to `wrong`. Raises SourceError, ToolError, Stalled, Interrupted.
    """
    if not order.resource.snapshot or order.dry_run:
        yield
    elif why := _outdated(order):
        order.notes.append(why)
        yield
    else:
        found = backing.below(order.resource, order.config.role.timeout)
        name = lvm.OURS + order.snapshot
        with ExitStack() as undo:
            undo.callback(_undo, order, found, name, wrong)
            order.instant = _made(order, found, name)
            if order.instant is None:
                undo.close()  # what nobody reads must not fill up for as long as the copy takes
            yield


def _outdated(order: Order) -> str:
    """Why a snapshot of the disk here would not be what the volume is, "" if it would. Raises Interrupted."""
    verdict = order.judge()
    if verdict.decision is not Decision.PROCEED:
        raise Interrupted(f"the run was interrupted: {'; '.join(verdict.because)}", _MAKES_UP)
    if verdict.disk and all(disk == Disk.UP_TO_DATE.value for disk in verdict.disk.split(",")):
        return ""
    return f"copied from the volume itself: the disk here is {verdict.disk or 'unknown'}, not fit for an LVM snapshot"


def _made(order: Order, found: Backing, name: str) -> Instant | None:
    """The snapshot; None (and a note) if the disk fell behind meanwhile."""
    if not proc.can_cage():
        raise SourceError("an LVM snapshot needs mount namespaces", "Run it as root, and not in a container.")
    table = mounts.table()
    live, point = mounts.mounted_at(table, order.resource.source), order.resource.source
    if live is None:
        raise Interrupted(f"the run was interrupted: {point} is not mounted any more", _MAKES_UP)
    backing.check_mount(live, order.resource)
    found.check()
    at = os.path.join(order.config.state_dir, "instant")
    os.makedirs(at, mode=0o700, exist_ok=True)
    started_ns = time.time_ns()
    _flush(order, live)
    sweep.note(order.config, order.resource, f"{found.volume.group}/{name}")
    lvm.create(found.volume, name, found.needs)
    snapshot = found.named(name)
    if snapshot is None:
        raise SourceError(f"LVM has made no snapshot {name}", "See what `lvs` says.")
    if why := _outdated(order):
        order.notes.append(why)
        return None
    left_out = [os.path.relpath(one.point, point) for one in mounts.below(table, point)]
    return Instant(found, name, snapshot.path, at, live.fstype, started_ns, left_out)


def _flush(order: Order, live: Mount) -> None:
    """Bring what was written until now to the disk, inside the fence: it is the last use of the volume."""
    cages: list[Cage] = []

    def strike() -> None:
        for cage in cages:
            cage.strike()

    fence, limits = Fence(order, strike), order.config.limits
    job = {
        **surroundings(order.config), "job": "flush", "source": order.resource.source, "mounted": identity(live),
    }  # fmt: skip
    fence.start()
    try:
        attend("flush", job, Patience(limits.stall, limits.stall, grace=0.0), lambda _: None, fence.why, cages.append)
    except Interrupted as error:
        raise Interrupted(f"the run was interrupted: {error.message}", _MAKES_UP) from None
    finally:
        fence.stop(lambda: any(cage.lingers() for cage in cages))


def _undo(order: Order, found: Backing, name: str, wrong: list[DrbdBackupError]) -> None:
    """Remove the snapshot, if there is one. A signal that comes meanwhile is the last: the removal begins again."""
    order.instant = None
    try:
        _remove(order, found, name, wrong)
    except (Stopped, Interrupted):
        _remove(order, found, name, wrong)
        raise


def _remove(order: Order, found: Backing, name: str, wrong: list[DrbdBackupError]) -> None:
    """As soon as the cages' mounts of it are gone. DRBD is not asked: by now it may be down."""
    until = time.monotonic() + IN_USE
    while True:
        try:
            if (one := found.named(name)) is not None:
                lvm.remove(one)
            if not found.left:  # no older one was
                sweep.forget(order.config, order.resource)
        except ToolError as error:
            if "in use" in error.message and time.monotonic() < until:
                time.sleep(_POLL)
                continue
            told = f"the LVM snapshot {name} could not be removed: {error.message}"
            wrong.append(PartialResult(told, "The next run tries again; until then it takes room. See `lvs`."))
        return
