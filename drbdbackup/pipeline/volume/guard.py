"""The source as a caged job sees it: the volume that the verdict was about, read-only, its symlinks not followed.

Inside a cage the mount's own flags are changed in place (a bind elsewhere would keep the device busy after the host
has unmounted it). Outside a cage nothing is touched: it is the host's mount.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from drbdbackup.errors import Interrupted, LvmSnapshotError, ToolError
from drbdbackup.model.mount import Mount, MountIdentity
from drbdbackup.pipeline.cage.nosymfollow import mount_id, without_symlinks
from drbdbackup.pipeline.volume.source_protocol import SourceJob
from drbdbackup.tools import mount, mounts

UNPROTECTED = "the kernel cannot keep symlinks from being followed: a folder swapped for one in mid-run would be"
UNCAGED = (
    "no namespaces are available here (not root, a container): a kill may leave processes or mounts, and a "
    "folder swapped for a symlink in mid-run would be followed"
)


class Guarded(Struct, frozen=True):
    """A source that was found right. `mountpoints` are those in it, relative; `note` says what was not available."""

    source: str
    mountpoints: frozenset[bytes]
    mount_id: int
    note: str = ""

    def check(self) -> None:
        """Look again: raises Interrupted if another mount, or the bare folder, is there by now.

        To be asked before anything that is not there is believed to be gone.
        """
        if _mount_id(self.source) != self.mount_id:
            raise Interrupted(f"{self.source} is not mounted any more as it was when the run began")


def guarded(job: SourceJob) -> Guarded:
    """Make sure that the job's `source` is what it was judged to be.

    A folder that is swapped for a symlink in mid-run must not pull in files from outside: `nosymfollow` stops that.
    With `lvm_snapshot` the volume is left alone, and the snapshot is mounted at `source`, in this cage only. Raises
    Interrupted if the volume is not mounted there (any more), SourceError if the snapshot cannot be mounted, Unguarded.
    """
    source = job.source
    if job.lvm_snapshot is not None:
        _mount_snapshot(source, job.lvm_snapshot.device, job.lvm_snapshot.fstype)
        left_out = frozenset(map(os.fsencode, job.lvm_snapshot.left_out))
        return Guarded(source, left_out, _mount_id(source))  # nobody can swap a folder in it
    seen = mounts.mounted_at(mounts.table(), source)
    if identity(seen) != job.mounted:
        raise Interrupted(f"{source} is not mounted any more as it was when the run began")
    is_protected = job.here.caged and _protect(source, seen)
    if seen is not None and mounted_now(source) != job.mounted:
        raise Interrupted(f"{source} was unmounted as the run began")
    below = (os.fsencode(os.path.relpath(point.point, source)) for point in mounts.below(mounts.table(), source))
    note = "" if is_protected else UNPROTECTED if job.here.caged else UNCAGED
    return Guarded(source, frozenset(below), _mount_id(source), note)


def _mount_snapshot(point: str, device: str, fstype: str) -> None:
    """Read-only, which lets its journal be replayed: the device itself can be written to.

    The type is named: behind the file system lies DRBD's own metadata, and that is what mount would find. XFS mounts no
    second one of the same UUID by default.
    """
    options = ("ro", "nodev", "nosuid", "noexec", *(("nouuid",) if fstype == "xfs" else ()))
    try:
        mount.attach(device, point, options, fstype)
    except ToolError as error:
        hint = "See `dmesg`. Is the file system on DRBD's device itself, and not on LVM above it?"
        raise LvmSnapshotError(f"the LVM snapshot {device} could not be mounted: {error.message}", hint) from None


def identity(seen: Mount | None) -> MountIdentity | None:
    """What of a mount must stay the same during a run; None for a plain folder."""
    return None if seen is None else seen.identity


def mounted_now(source: str) -> MountIdentity | None:
    """The same of what is mounted at a folder at this moment."""
    return identity(mounts.mounted_at(mounts.table(), source))


def unmounted(source: str, before: MountIdentity | None) -> str:
    """Why work on a volume must end: it is not mounted as it was before (`mounted_now`); "" if it is."""
    return "" if mounted_now(source) == before else f"{source} was unmounted meanwhile"


def _protect(source: str, seen: Mount | None) -> bool:
    with _gone(source):
        return without_symlinks(source, mount.bind_nosymfollow if seen is None else mount.remount_nosymfollow)


def _mount_id(source: str) -> int:
    with _gone(source):
        return mount_id(source)


@contextmanager
def _gone(source: str) -> Iterator[None]:
    """A path that leads nowhere any more is a volume that was unmounted."""
    try:
        yield
    except OSError as error:
        raise Interrupted(f"{source} is gone: {error.strerror}") from None
