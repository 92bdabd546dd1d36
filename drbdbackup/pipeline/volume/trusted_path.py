"""The way to a folder that an admin has named, where others may own or write a folder on it.

Whoever can write to a folder can put a symlink in the place of what is in it, at any moment. So a path is made real
without the symlinks of other users, and what is then opened, or made, is opened from its parent, and is no symlink.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress

from drbdbackup import open_flags
from drbdbackup.errors import UsageError

_MOST_LINKS = 40
_STEP = open_flags.PATH | os.O_DIRECTORY


def real_path(path: str, trusted: Collection[int]) -> str:
    """The path (absolute) without symlinks; what is not there stays as it is.

    Raises UsageError for a symlink of a user who is none of the `trusted`, OSError for a ring of them.
    """
    at, left, links = "/", path.split("/"), 0
    while left:
        name = left.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, name)
        target = _target(here, trusted)
        if target is None:
            at = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        left[:0] = target.split("/")
        at = "/" if target.startswith("/") else at
    return at


def _target(here: str, trusted: Collection[int]) -> str | None:
    """Where a symlink leads to, None if it is none. Whose it is and what it says are asked of one and the same."""
    try:
        link = os.open(here, open_flags.PATH)
    except OSError:
        return None
    try:
        seen = os.fstat(link)
        if not stat.S_ISLNK(seen.st_mode):
            return None
        if seen.st_uid not in trusted:
            message = f"{here} is a symlink of user {seen.st_uid}, who could have it lead anywhere"
            raise UsageError(message, "Name the folder that you mean, without that symlink.")
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


@contextmanager
def opened(path: str, *, make: bool = False) -> Iterator[tuple[int, str, int]]:
    """A folder's parent, its name there, and the folder, both open; it and those above are made (0700) if `make`.

    `path` is absolute and without symlinks. Raises OSError, also where one has appeared.
    """
    names = [name for name in path.split("/") if name]
    if not names:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
    with ExitStack() as stack:
        at = _opened("/", _STEP, None, stack)
        for number, name in enumerate(names, 1):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=at)
            is_last = number == len(names)
            parent, at = at, _opened(name, open_flags.FOLDER if is_last else _STEP, at, stack)
        yield parent, names[-1], at


def _opened(name: str, flags: int, parent: int | None, stack: ExitStack) -> int:
    folder = os.open(name, flags, dir_fd=parent)
    stack.callback(os.close, folder)
    return folder
