"""The block device or image file of a disk target: whether it is there, and whether a mount shows it.

It looks, and never mounts.
"""

from __future__ import annotations

import os
import stat

from drbdbackup.errors import DeviceMissing, Failure, TargetError
from drbdbackup.model.mount import Mount
from drbdbackup.tools import lsblk


def check(path: str) -> None:
    """Raise TargetError if it is missing, or neither a block device nor an image file."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        hint = "Is the disk plugged in, and is it still called so? Look with `lsblk -f`; /dev/disk/by-label/ stays."
        raise DeviceMissing(f"{path}: {error.strerror}", hint) from None
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise TargetError(f"{path} is neither a block device nor an image file", "See `lsblk -f`.")


def shows(seen: Mount, path: str) -> bool:
    """Whether a mount shows this device, or this image file through a loop device."""
    if not seen.source.startswith("/dev/") or not seen.may_show_device():
        return False
    try:
        wanted, found = os.stat(path), os.stat(seen.source)
        if stat.S_ISBLK(wanted.st_mode):
            return wanted.st_rdev == found.st_rdev
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        with open(f"/sys/dev/block/{number}/loop/backing_file", "rb") as file:
            return os.path.samestat(wanted, os.stat(file.read().rstrip(b"\n")))
    except OSError:
        return False


def clones(path: str, uuid: str) -> list[str]:
    """The other devices that hold the same file system: a disk was cloned. An image file is one place only."""
    try:
        return lsblk.clones(lsblk.block_devices(), path, uuid) if stat.S_ISBLK(os.stat(path).st_mode) else []
    except (OSError, Failure):  # a check more, that must not cost the night
        return []


def clone_hint(others: list[str]) -> str:
    """What to do about them."""
    return f"Unplug the one that is not to be it, or give it a new UUID, for ext4: `tune2fs -U random {others[0]}`."
