"""The role as a word in a file, for the demonstration, for tests and for clusters that keep one under /run.

What it says is believed only if it is one of the two words.
"""

from __future__ import annotations

import os
import stat

from drbdbackup import plain_file
from drbdbackup.errors import Failure, MountTableUnreadable
from drbdbackup.model.role import Observation
from drbdbackup.proc import probe
from drbdbackup.roles.words import observation_of, unknown
from drbdbackup.tools import mounts

SOURCE = "file"
_LONGEST = 4096  # bytes
_HINT = "The file of [role] must hold one word, Primary or Secondary; write it to a new file and rename that."
_IN_MEMORY = "tmpfs"
_ROOT = frozenset({_IN_MEMORY, "ext4", "xfs", "btrfs", "overlay"})  # where that hangs, every program does


def observe(resource: str, path: str, timeout: float) -> Observation:
    """Read it, where that may hang (the path may lie on a share, or be a FIFO) from a process that can be abandoned."""
    try:
        if _cannot_hang(path):
            text: object = os.fsdecode(plain_file.content(path, _LONGEST))  # it may be a FIFO by now
        else:
            text = probe(lambda: _read(path), timeout, path)
    except OSError as error:
        return _unreadable(resource, path, f"{path}: {error.strerror}")
    except Failure as error:
        return _unreadable(resource, path, error.message)
    return observation_of(str(text), resource, SOURCE, path, _HINT)


def _unreadable(resource: str, path: str, why: str) -> Observation:
    hint = f"Whoever changes the role writes Primary or Secondary to {path}."
    return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {why}", hint)


def _cannot_hang(path: str) -> bool:
    """Whether it is a plain file on the root file system or in memory, and no symlink leads elsewhere.

    Any other disk may hang as a share does: the volume itself, or one of a SAN. A process costs as much as all else
    that a look at the role does, and a run asks five times.
    """
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        return False
    way = [*(path[:end] for end, letter in enumerate(path) if letter == "/" and end), path]
    try:
        crossed = [mount for mount in mounts.table() if mount.point in ("/", *way)]
        if not all(one.fstype in (_ROOT if one.point == "/" else (_IN_MEMORY,)) for one in crossed):
            return False
        return all(stat.S_ISDIR(os.lstat(one).st_mode) for one in way[:-1]) and stat.S_ISREG(os.lstat(path).st_mode)
    except (MountTableUnreadable, OSError):
        return False


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return os.fsdecode(file.read(_LONGEST))
