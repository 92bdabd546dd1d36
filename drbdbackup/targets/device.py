"""The block device or image file of a disk target: what it holds, and whether a mount shows it."""

from __future__ import annotations

import os
import stat

from drbdbackup.errors import TargetError
from drbdbackup.model.mount import Mount
from drbdbackup.tools import blkid
from drbdbackup.tools.blkid import Filesystem


def filesystem(path: str) -> Filesystem:
    """The file system on it. Raises TargetError if it is missing, or if there is none on it; ToolError."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        hint = "Is the disk plugged in, and is it still called so? Look with `lsblk -f`; /dev/disk/by-label/ stays."
        raise TargetError(f"{path}: {error.strerror}", hint) from None
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise TargetError(f"{path} is neither a block device nor an image file", "Look with `lsblk -f`.")
    return blkid.filesystem(path)


def shows(seen: Mount, path: str) -> bool:
    """Whether a mount shows this device, or this image file through a loop device."""
    if not seen.source.startswith("/dev/"):
        return False
    try:
        wanted, found = os.stat(path), os.stat(seen.source)
        if stat.S_ISBLK(wanted.st_mode):
            return wanted.st_rdev == found.st_rdev
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        with open(f"/sys/dev/block/{number}/loop/backing_file", "rb") as told:
            return os.path.samestat(wanted, os.stat(told.read().rstrip(b"\n")))
    except OSError:
        return False
