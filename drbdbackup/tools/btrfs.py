"""btrfs(8): subvolumes, their snapshots, and the read-only flag."""

from __future__ import annotations

import os

from drbdbackup import proc
from drbdbackup.errors import ToolError
from drbdbackup.proc import Command

ROOT_INODE = 256  # of every subvolume (btrfs(5)); other file systems use the number for anything
_TIMEOUT = 10 * 60.0  # a snapshot waits for what is being written


def is_subvolume(path: str) -> bool:
    """Whether `path` is a subvolume's top folder; never raises."""
    try:
        if os.lstat(path).st_ino != ROOT_INODE:
            return False
        proc.run(Command(argv=("btrfs", "subvolume", "show", path)))
    except (OSError, ToolError):
        return False
    return True


def create(path: str) -> None:
    """Make an empty subvolume. Raises ToolError, on any other file system too."""
    _subvolume("create", path)


def snapshot(source: str, path: str, *, read_only: bool = False) -> None:
    """Make `path` a snapshot of the subvolume `source`, at once and sharing everything. Raises ToolError."""
    _subvolume("snapshot", *(("-r",) if read_only else ()), source, path)


def delete(path: str) -> None:
    """Delete a subvolume; the space comes back in the background. Raises ToolError (other subvolumes in it)."""
    _subvolume("delete", path)


def await_deletions(path: str) -> None:
    """Wait until the space of deleted subvolumes of the file system is free. Raises ToolError.

    btrfs begins to free them when it is synced in its own way (BTRFS_IOC_SYNC); else up to half a minute later.
    """
    proc.run(Command(argv=("btrfs", "filesystem", "sync", path), timeout=_TIMEOUT))
    _subvolume("sync", path)


def set_read_only(path: str, *, read_only: bool) -> None:
    """Set or clear a subvolume's read-only flag. Raises ToolError."""
    argv = ("btrfs", "property", "set", "-t", "subvol", path, "ro", "true" if read_only else "false")
    proc.run(Command(argv=argv, timeout=_TIMEOUT))


def _subvolume(*argv: str) -> None:
    proc.run(Command(argv=("btrfs", "subvolume", *argv), timeout=_TIMEOUT))
