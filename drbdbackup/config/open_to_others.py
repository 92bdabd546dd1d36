"""Who else can change what root is about to run or to obey: the file, the symlinks to it, and every folder above.

It looks at owners and modes and changes nothing. Whoever owns a folder can put another file in the place of root's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct

_MOST_LINKS = 40
_INTERPRETERS = ("sh", "bash", "dash", "ksh", "zsh", "perl", "python3", "python", "php", "ruby", "node")
_WRAPPERS = (
    "timeout", "nice", "ionice", "chrt", "setsid", "nohup", "stdbuf", "flock", "sudo", "runuser", "setpriv", "unshare",
    "nsenter", "systemd-run", "env", "busybox",
)


class OpenToOthers(Struct, frozen=True):
    """Something that others than root can change, and how that is ended. `is_groups`: a folder, by its group only."""

    why: str
    hint: str
    is_groups: bool = False


def caller() -> int:
    """Who called sudo, if anybody did."""
    uid = os.environ.get("SUDO_UID", "")
    return int(uid) if uid.isascii() and uid.isdigit() else 0


def open_to_others(path: str, trusted: Collection[int] = (0,)) -> Iterator[OpenToOthers]:
    """What about a file, and all that leads to it, is not for the `trusted` users alone to change. Raises OSError."""
    for here, seen in _way(path):
        if seen.st_uid not in trusted:
            yield OpenToOthers(f"{here} belongs to user {seen.st_uid}", f"chown --no-dereference root {here}")
        is_folder = stat.S_ISDIR(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode) or (is_folder and seen.st_mode & stat.S_ISVTX):
            continue
        if seen.st_mode & stat.S_IWOTH:
            yield OpenToOthers(f"everybody can write to {here}", f"chmod o-w {here}")
        elif seen.st_mode & stat.S_IWGRP and seen.st_gid:
            yield OpenToOthers(f"the group {seen.st_gid} can write to {here}", f"chmod g-w {here}", is_folder)


def first(argv: Sequence[str], program: str) -> OpenToOthers | None:
    """What keeps root from running an argv, whose program was found at `program`. Raises OSError."""
    if os.geteuid() != 0:
        return None
    found = (one for path in programs(argv, program) for one in open_to_others(path))
    return next((one for one in found if not one.is_groups), None)


def programs(argv: Sequence[str], program: str) -> tuple[str, ...]:
    """The files that are run for an argv: its program, as it was found, the script of an interpreter, and what a
    program runs that is there to run another one.
    """
    name, files = os.path.basename(argv[0]), [at for at, word in enumerate(argv) if at and _is_file(word)]
    if name in _INTERPRETERS:
        return (program, *[argv[at] for at in files[:1]])
    if name in _WRAPPERS:
        inner = [at for at in files if os.access(argv[at], os.X_OK)]
        inner += [at for at, word in enumerate(argv) if at and word in (*_INTERPRETERS, *_WRAPPERS)]
        return (program, *(programs(argv[min(inner) :], argv[min(inner)]) if inner else ()))
    return (program,)


def _is_file(word: str) -> bool:
    return word.startswith("/") and os.path.isfile(word)


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Each folder and symlink on the way to a file, and the file, once."""
    at, left, links, met = "/", os.path.abspath(path).split("/"), 0, set[str]()
    yield at, os.lstat(at)
    while left:
        name = left.pop(0)
        if name in ("", "."):
            continue
        here = os.path.dirname(at) if name == ".." else os.path.join(at, name)
        seen = os.lstat(here)
        if here not in met:
            met.add(here)
            yield here, seen
        if not stat.S_ISLNK(seen.st_mode):
            at = here
            continue
        if here.startswith("/proc/"):  # a descriptor of ours: no link that anybody else can bend
            return
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        left[:0] = target.split("/")
        at = "/" if target.startswith("/") else at
