"""A short-lived LVM snapshot of the disk below DRBD, to copy from during one run.

It is as the volume would be found after a power cut at that moment, so its journal is replayed when it is mounted. What
was changed before the flush is all in it. It is removed at every end of the run, and what a kill left by the next one.
It is only made of a disk that DRBD calls UpToDate: any other holds old data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.catalog.folders import private_folder
from drbdbackup.errors import (
    Cancelled,
    DrbdBackupError,
    Interrupted,
    LvmSnapshotError,
    PartialResult,
    ToolError,
)
from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Decision, DiskState
from drbdbackup.pipeline.backup.order import Order
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.supervisor import Cage, Patience, run_job
from drbdbackup.pipeline.volume import lvm_leftovers, lvm_volume
from drbdbackup.pipeline.volume.failover_watch import FailoverWatch
from drbdbackup.pipeline.volume.guard import identity
from drbdbackup.pipeline.volume.lvm_snapshot import LvmSnapshot
from drbdbackup.pipeline.volume.lvm_volume import BackingVolume
from drbdbackup.pipeline.volume.source_protocol import FLUSH, FlushJob
from drbdbackup.tools import lvm, mounts

IN_USE = 10.0  # seconds that ended processes may take to let go of a snapshot
_POLL = 0.2  # seconds


class Taken(Struct, frozen=True):
    """The snapshot to copy from; None where the volume itself is to be copied, with the reason if one was wanted."""

    lvm_snapshot: LvmSnapshot | None = None
    note: str = ""


@contextmanager
def taken(order: Order, wrong: list[DrbdBackupError]) -> Iterator[Taken]:
    """For the block: a snapshot, where the resource is to be copied from one; else nothing is done.

    Where the disk here is not up to date the volume itself is copied. What went wrong with the removal goes to `wrong`.
    Raises SourceError, ToolError, Stalled, Interrupted.
    """
    if not order.resource.snapshot or order.dry_run:
        yield Taken()
    elif why := _outdated(order):
        yield Taken(note=why)
    else:
        found = lvm_volume.below(order.resource, order.config.role.timeout)
        name = lvm.OURS + order.snapshot
        with ExitStack() as undo:
            undo.callback(_undo, order, found, name, wrong)
            made = _made(order, found, name)
            if made.lvm_snapshot is None:
                undo.close()  # what nobody reads must not fill up for as long as the copy takes
            yield made


def _outdated(order: Order) -> str:
    """Why a snapshot of the disk here would not be what the volume is, "" if it would. Raises Interrupted."""
    verdict = order.judge()
    if verdict.decision is not Decision.PROCEED:
        raise Interrupted(f"the run was interrupted: {'; '.join(verdict.because)}", Interrupted.made_there)
    if verdict.disk and all(disk == DiskState.UP_TO_DATE.value for disk in verdict.disk.split(",")):
        return ""
    return f"copied from the volume itself: the disk here is {verdict.disk or 'unknown'}, not fit for an LVM snapshot"


def _made(order: Order, found: BackingVolume, name: str) -> Taken:
    """The snapshot, not to be copied from if the disk fell behind meanwhile."""
    if not proc.can_cage():
        raise LvmSnapshotError("an LVM snapshot needs mount namespaces", "Run it as root, and not in a container.")
    table = mounts.table()
    live, point = mounts.mounted_at(table, order.resource.source), order.resource.source
    if live is None:
        raise Interrupted(f"the run was interrupted: {point} is not mounted any more", Interrupted.made_there)
    lvm_volume.check_mount(live, order.resource)
    found.check()
    at = os.path.join(order.config.state_dir, "instant")
    private_folder(at)
    started_ns = time.time_ns()
    _flush(order, live)
    lvm_leftovers.note(order.config, order.resource, f"{found.volume.group}/{name}")
    lvm.create(found.volume, name, found.needs)
    snapshot = found.named(name)
    if snapshot is None:
        raise LvmSnapshotError(f"LVM has made no snapshot {name}", "See what `lvs` says.")
    if why := _outdated(order):
        return Taken(note=why)
    left_out = [os.path.relpath(one.point, point) for one in mounts.below(table, point)]
    return Taken(
        LvmSnapshot(
            backing=found,
            name=name,
            device=snapshot.path,
            at=at,
            fstype=live.fstype,
            started_ns=started_ns,
            left_out=left_out,
        )
    )


def _flush(order: Order, live: Mount) -> None:
    """Bring what was written until now to the disk, under the watch: it is the last use of the volume."""
    cages: list[Cage] = []

    def kill_now() -> None:
        for cage in cages:
            cage.kill_now()

    watch = FailoverWatch(order.config, order.resource, order.judge, kill_now)
    limits = order.config.limits
    job = FlushJob(here=node_facts(order.config), source=order.resource.source, mounted=identity(live))
    watch.start()
    try:
        at_once = Patience.stalled_after(limits.stall, grace=0.0)
        run_job(FLUSH, "flush", job, at_once, why_stop=watch.why, begun=cages.append)
    except Interrupted as error:
        raise type(error)(f"the run was interrupted: {error.message}", Interrupted.made_there) from None
    finally:
        watch.stop(lambda: any(cage.has_processes() for cage in cages))


def _undo(order: Order, found: BackingVolume, name: str, wrong: list[DrbdBackupError]) -> None:
    """Remove the snapshot, if there is one. A signal that comes meanwhile is the last: the removal begins again."""
    try:
        _remove(order, found, name, wrong)
    except Cancelled:
        _remove(order, found, name, wrong)
        raise


def _remove(order: Order, found: BackingVolume, name: str, wrong: list[DrbdBackupError]) -> None:
    """As soon as the cages' mounts of it are gone. DRBD is not asked: by now it may be down."""
    until = time.monotonic() + IN_USE
    while True:
        try:
            if (one := found.named(name)) is not None:
                lvm.remove(one)
            if not found.left:  # no older one was
                lvm_leftovers.forget(order.config, order.resource)
        except ToolError as error:
            if "in use" in error.message and time.monotonic() < until:
                time.sleep(_POLL)
                continue
            message = f"the LVM snapshot {name} could not be removed: {error.message}"
            wrong.append(PartialResult(message, "The next run tries again; until then it takes room. See `lvs`."))
        return
