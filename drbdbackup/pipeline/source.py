"""The source as a caged job sees it: the volume that the verdict was about, read-only, its symlinks not followed.

Inside a cage the mount's own flags are changed in place (a bind elsewhere would keep the device busy after the host
has unmounted it). Outside a cage nothing is touched: it is the host's mount.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import Interrupted, SourceError, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.tools import mount, mounts

UNPROTECTED = "the kernel cannot keep symlinks from being followed: a folder swapped for one in mid-run would be"
UNCAGED = (
    "no namespaces can be had here (not root, a container, no util-linux): a kill may leave processes or mounts, and a "
    "folder swapped for a symlink in mid-run would be followed"
)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A source that was found right. `mountpoints` are those in it, relative; `note` says what could not be had."""

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


def guarded(job: dict[str, Any]) -> Guarded:
    """Make sure that the job's `source` is what it was judged to be.

    A folder that is swapped for a symlink in mid-run must not pull in files from outside: `nosymfollow` stops that.
    With `instant` the volume is left alone, and the snapshot is mounted at `source`, in this cage only. Raises
    Interrupted if the volume is not mounted there (any more), SourceError if the snapshot cannot be mounted, Unguarded.
    """
    source = job["source"]
    if instant := job.get("instant"):
        _mount_snapshot(source, instant["device"], instant["fstype"])
        left_out = frozenset(map(os.fsencode, instant["left_out"]))
        return Guarded(source, left_out, _mount_id(source))  # nobody can swap a folder in it
    seen = mounts.mounted_at(mounts.table(), source)
    if identity(seen) != job["mounted"]:
        raise Interrupted(f"{source} is not mounted any more as it was when the run began")
    is_protected = job["caged"] and _protect(source, seen)
    if seen is not None and identity(mounts.mounted_at(mounts.table(), source)) != job["mounted"]:
        raise Interrupted(f"{source} was unmounted as the run began")
    below = (os.fsencode(os.path.relpath(point.point, source)) for point in mounts.below(mounts.table(), source))
    note = "" if is_protected else UNPROTECTED if job["caged"] else UNCAGED
    return Guarded(source, frozenset(below), _mount_id(source), note)


def _mount_snapshot(point: str, device: str, fstype: str) -> None:
    """Read-only, which lets its journal be replayed: the device itself can be written to.

    The type is named: behind the file system lies DRBD's own metadata, and that is what mount would find. XFS mounts no
    second one of the same UUID unless told to.
    """
    options = ("ro", "nodev", "nosuid", "noexec", *(("nouuid",) if fstype == "xfs" else ()))
    try:
        mount.attach(device, point, options, fstype)
    except ToolError as error:
        hint = "Look at dmesg. Is the file system on DRBD's device itself, and not on LVM above it?"
        raise SourceError(f"the LVM snapshot {device} could not be mounted: {error.message}", hint) from None


def identity(seen: Mount | None) -> dict[str, str] | None:
    """What of a mount must stay the same during a run."""
    return None if seen is None else {key: asdict(seen)[key] for key in ("device", "source", "fstype", "root")}


def let_go(job: dict[str, Any]) -> None:
    """Drop, in this cage only, every replicated volume that the job has no business with.

    Where `/` is private, a cage's copy of a mount keeps its device busy after the host's unmount: the node could not
    become Secondary for as long as a verify takes.
    """
    wanted = [os.path.realpath(job[key]) for key in ("source", "to") if isinstance(job.get(key), str)]
    table = mounts.table()
    for seen in reversed(table):
        is_volume = seen.point in job["volumes"] or seen.source.startswith("/dev/drbd")
        if is_volume and not any(path == seen.point or path.startswith(f"{seen.point}/") for path in wanted):
            with suppress(ToolError):
                mount.detach_lazily(seen.point)


def _protect(source: str, seen: Mount | None) -> bool:
    if seen is None and not proc.had(lambda: mount.bind(source, source), f"{source} could not be made a mount"):
        return False
    return without_symlinks(source, mount.remount_nosymfollow)


def without_symlinks(point: str, remount: Callable[[str], None]) -> bool:
    """Whether the kernel follows no symlinks there from now on, after a `remount` in this cage. Raises Unguarded.

    The mount table is asked, not mount: before Linux 5.10 the flag may be taken without a word and without effect.
    """
    if not proc.had(lambda: remount(point), f"{point} could not be guarded against symlinks"):
        return False
    there = _mount_id(point)
    return any(seen.mount_id == there and "nosymfollow" in seen.options for seen in mounts.table())


def _mount_id(source: str) -> int:
    """The mount that a path leads to now (in this namespace); Interrupted if it leads nowhere."""
    try:
        fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Interrupted(f"{source} is gone: {error.strerror}") from None
    try:
        return mounts.mount_id_of(fd)
    finally:
        os.close(fd)
