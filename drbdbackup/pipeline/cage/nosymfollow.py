"""Mounts in which the kernel follows no symlinks: whoever can write there cannot lead a write of root elsewhere.

Only for a cage, where the mount is its own; nothing here decides what is to be guarded, or what is done without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from drbdbackup import proc
from drbdbackup.tools import mounts


def without_symlinks(point: str, remount: Callable[[str], None]) -> bool:
    """Whether the kernel follows no symlinks there from now on, after a `remount` in this cage. Raises as `had` does.

    The mount table is asked, not mount: before Linux 5.10 the flag may be taken without a word and without effect.
    """
    if not proc.try_guard(lambda: remount(point), f"{point} could not be guarded against symlinks"):
        return False
    there = mount_id(point)
    return any(seen.mount_id == there and "nosymfollow" in seen.options for seen in mounts.table())


def mount_id(source: str) -> int:
    """The mount that a path leads to now (in this namespace). Raises OSError."""
    fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return mounts.mount_id_of(fd)
    finally:
        os.close(fd)
