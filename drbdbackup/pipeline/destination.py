"""Where a restore writes to: a folder that is empty or absent, or the live volume while it is what was judged.

Nothing is written before it has been checked, and whatever is written goes through the one descriptor that was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import Interrupted, UsageError
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline.source import identity, without_symlinks
from drbdbackup.scan import NOT_OURS
from drbdbackup.tools import mount, mounts

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def check(job: dict[str, Any]) -> None:
    """Raises UsageError unless `to` is an empty or absent folder (or may be merged into).

    Raises Interrupted if the volume is not mounted (any more) as it was when the verdict was reached.
    """
    if job["in_place"]:
        _judged(job)
        return
    where = job["to"]
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"--to {where} is not a folder", "Name an empty folder, or one that does not exist.") from None
    if [name for name in names if os.fsencode(name) not in NOT_OURS] and not job["merge"]:
        hint = "Name an empty or absent folder. --merge restores over what is there and deletes nothing."
        raise UsageError(f"--to {where} is not empty", hint)


@contextmanager
def opened(job: dict[str, Any]) -> Iterator[int]:
    """The destination as an open folder, made where it is absent (0700 until it gets its own mode)."""
    check(job)
    where = job["source"] if job["in_place"] else job["to"]
    if job["in_place"]:
        _protect(job)
    try:
        if not job["in_place"]:
            os.makedirs(where, 0o700, exist_ok=True)
        folder = os.open(where, _FOLDER)
    except OSError as error:
        raise UsageError(f"{where} cannot be restored to: {error.strerror}") from None
    try:
        if job["in_place"]:
            _judged(job)
        yield folder
    finally:
        os.close(folder)


def free(job: dict[str, Any]) -> int:
    """Bytes that can still be written where the destination is, or will be."""
    where = job["source"] if job["in_place"] else job["to"]
    while not os.path.lexists(where):
        where = os.path.dirname(where)
    seen = os.statvfs(where)
    return seen.f_bavail * seen.f_frsize


def mountpoints(job: dict[str, Any]) -> frozenset[bytes]:
    """Other file systems in the volume, as paths from it: they are not its own. Asked before `opened`."""
    if not job["in_place"]:
        return frozenset()
    source = job["source"]
    below = mounts.below(mounts.table(), source)
    return frozenset(os.fsencode(os.path.relpath(one.point, source)) for one in below)


def _judged(job: dict[str, Any]) -> Mount | None:
    seen = mounts.mounted_at(mounts.table(), job["source"])
    if identity(seen) != job["mounted"]:
        raise Interrupted(f"{job['source']} is not mounted any more as it was when this began")
    return seen


def _protect(job: dict[str, Any]) -> None:
    """Let no symlink in the live volume lead a write out of it; in a cage only, where the mount is our own.

    Raises Unguarded.
    """
    if not job["caged"]:
        return
    if _judged(job) is None:
        if not proc.had(lambda: mount.bind(job["source"], job["source"]), f"{job['source']} could not be made a mount"):
            return
        job["mounted"] = identity(mounts.mounted_at(mounts.table(), job["source"]))
    without_symlinks(job["source"], mount.forbid_symlinks)  # where that cannot be had: rsync's own care
