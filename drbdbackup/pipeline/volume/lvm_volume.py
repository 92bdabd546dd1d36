"""The logical volume below a resource: found from DRBD, asked of LVM, and whether a snapshot of it can be made.

Nothing is guessed: a snapshot of another volume would be a backup of something else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.config.values import ResourceConfig
from drbdbackup.errors import LvmSnapshotError, ToolError
from drbdbackup.model.amount import size
from drbdbackup.model.mount import Mount
from drbdbackup.tools import drbd, lvm
from drbdbackup.tools.lvm import LogicalVolume

FSTYPES = ("ext4", "ext3", "ext2", "xfs")
_WITHOUT = 'or take `snapshot = "lvm"` out of [resource.{}].'


class BackingVolume(Struct, frozen=True):
    """The logical volume below a resource, and the snapshots of it that runs have made, when that was asked."""

    resource: ResourceConfig
    volume: LogicalVolume
    left: tuple[LogicalVolume, ...] = ()

    @property
    def needs(self) -> int:
        """Bytes that its snapshot is to have."""
        return lvm.room(self.resource.snapshot_size, self.volume)

    def snapshots(self, known: Sequence[LogicalVolume]) -> tuple[LogicalVolume, ...]:
        """Of these, the ones that are snapshots of it and that runs have made. Never anybody else's."""
        mine = self.volume.group, self.volume.name
        return tuple(one for one in known if one.is_ours and (one.group, one.origin) == mine)

    def named(self, name: str) -> LogicalVolume | None:
        """The one of that name as it is now, None if there is none. Raises ToolError if two questions are in vain."""
        try:
            known = lvm.named(self.volume.group, name)
        except ToolError:
            known = lvm.named(self.volume.group, name)
        return next(iter(self.snapshots(known)), None)

    def check(self) -> None:
        """Whether a snapshot can be made now. Raises SourceError."""
        volume, without = self.volume, _WITHOUT.format(self.resource.name)
        if volume.segtype == "thin":
            message = (
                f"{volume.full_name} is a thin volume: its snapshot could fill the pool, and stop the volume itself"
            )
            raise LvmSnapshotError(message, f"Move it to a volume that is not thin, {without}")
        if self.needs > volume.free:
            message = f"{volume.group} has {size(volume.free)} left, and the snapshot is to have {size(self.needs)}"
            hint = f"`vgextend` it, give snapshot_size less in [resource.{self.resource.name}], {without}"
            raise LvmSnapshotError(message, hint)


def below(resource: ResourceConfig, timeout: float) -> BackingVolume:
    """What is below the resource's device on this node; `timeout` is for each question to DRBD, in seconds.

    Raises SourceError if that is no logical volume, ToolMissing, ToolTimedOut, ToolError.
    """
    disk, without = _disk(resource, timeout), _WITHOUT.format(resource.name)
    number = _number(disk)
    known = lvm.volumes()
    volume = next((one for one in known if number and one.number == number), None)
    if volume is None:
        hint = f"`lsblk` shows what it is. Move it to LVM, {without}"
        raise LvmSnapshotError(f"the disk below {resource.device} is {disk}, which is no logical volume", hint)
    found = BackingVolume(resource, volume)
    return replace(found, left=found.snapshots(known))


def check_mount(live: Mount, resource: ResourceConfig) -> None:
    """Whether a snapshot of what is mounted there can be mounted beside it, and shows the same. Raises SourceError."""
    without = _WITHOUT.format(resource.name)
    if live.fstype not in FSTYPES:
        message = f"a snapshot of a file system of type {live.fstype} cannot be mounted beside it"
        raise LvmSnapshotError(message, f"Use {', '.join(FSTYPES)}, {without}")
    if live.root != "/":
        message = f"at {live.point} only {live.root} of the volume is mounted, and a snapshot would show all of it"
        raise LvmSnapshotError(message, f"Mount the volume itself there, {without}")


def _disk(resource: ResourceConfig, timeout: float) -> str:
    """The path of the disk below the configured device, which may be called by any of its names."""
    real = os.path.realpath(resource.device)
    for device, disk in drbd.disks(resource.name, timeout).items():
        if os.path.realpath(device) == real and disk != "none":
            return disk
    message = f"DRBD has no disk below {resource.device} here"
    hint = f"`drbdadm sh-dev {resource.name}` and `drbdadm sh-ll-dev {resource.name}` say what it has."
    raise LvmSnapshotError(message, hint)


def _number(path: str) -> str:
    """The major and minor of a block device, "" if it is none."""
    try:
        seen = os.stat(path)
    except OSError:
        return ""
    return f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}" if stat.S_ISBLK(seen.st_mode) else ""
