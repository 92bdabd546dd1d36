"""Who else can change what root is about to run or to obey: the file, the symlinks to it, and every folder above.

It looks at owners, modes and ACLs and changes nothing. Whoever owns a folder can put another file in the place of
root's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from msgspec import Struct

_MOST_LINKS = 40
_INTERPRETERS = ("sh", "bash", "dash", "ksh", "zsh", "perl", "python", "php", "ruby", "node", "lua", "tclsh", "expect")
_VERSION = "0123456789.-"  # behind a name: python3.11
_PATHS = re.compile(r"""(?<![\w./=-])/[^\s'"`;&|<>()$]+""")  # in the text of a `sh -c`
_WRAPPERS = (
    "timeout", "nice", "ionice", "chrt", "setsid", "nohup", "stdbuf", "flock", "sudo", "runuser", "setpriv", "unshare",
    "nsenter", "systemd-run", "env", "busybox",
)


_ACL = "system.posix_acl_access"
_ACL_HEAD, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # tag, rights, id: linux/posix_acl_xattr.h
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 0x02, 0x08, 0o2


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
        if stat.S_ISLNK(seen.st_mode) or stat.S_ISCHR(seen.st_mode) or (is_folder and seen.st_mode & stat.S_ISVTX):
            continue  # /dev/null, for instance, is as it is
        if seen.st_mode & stat.S_IWOTH:
            yield OpenToOthers(f"everybody can write to {here}", f"chmod o-w {here}")
        elif seen.st_mode & stat.S_IWGRP:  # with an ACL that is the most that it gives to anybody
            for who, is_group in _named_in_acl(here, trusted):
                yield OpenToOthers(f"an ACL lets {who} write to {here}", f"setfacl -b {here}", is_folder and is_group)
            if seen.st_gid:
                yield OpenToOthers(f"the group {seen.st_gid} can write to {here}", f"chmod g-w {here}", is_folder)


def _named_in_acl(path: str, trusted: Collection[int]) -> Iterator[tuple[str, bool]]:
    """The users, but for those `trusted`, and the groups that the ACL of a file lets write; whether it is a group."""
    acl = b""
    with suppress(OSError):  # it has none
        acl = os.getxattr(path, _ACL, follow_symlinks=False)[_ACL_HEAD.size :]
    for tag, rights, number in _ACL_ENTRY.iter_unpack(acl[: len(acl) // _ACL_ENTRY.size * _ACL_ENTRY.size]):
        if rights & _ACL_WRITE and tag == _ACL_USER and number not in trusted:
            yield f"user {number}", False
        elif rights & _ACL_WRITE and tag == _ACL_GROUP and number:
            yield f"the group {number}", True


def why_replaceable(folder: str) -> str:
    """Who else could put another folder in the place of this one, or of one above it, while root is at work there; ""
    if nobody. Of one that is not there yet those above count. Whoever called sudo may. Raises OSError.

    A group is let pass, as above the configuration.
    """
    folder = os.path.abspath(folder)  # a relative path would come to no end
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    found = open_to_others(folder, {0, os.geteuid(), caller()})
    return next((one.why for one in found if not one.is_groups), "")


def first(argv: Sequence[str], program: str) -> OpenToOthers | None:
    """What keeps root from running an argv, whose program was found at `program`. Raises OSError."""
    return first_of(programs(argv, program))


def first_of(files: Iterable[str]) -> OpenToOthers | None:
    """What keeps root from running these files, or from obeying what they say. Raises OSError."""
    if os.geteuid() != 0:
        return None
    return next((one for path in files for one in open_to_others(path) if not one.is_groups), None)


def programs(argv: Sequence[str], program: str) -> tuple[str, ...]:
    """The files that are run for an argv: its program, as it was found, the script of an interpreter, and what a
    program runs that is there to run another one; of the text of a `sh -c` what can be run.
    """
    files = [at for at, word in enumerate(argv) if at and _is_file(word)]
    if _is_interpreter(argv[0]):
        texts = (path for word in argv[1:] if not _is_file(word) for path in _PATHS.findall(word))
        return (program, *[argv[at] for at in files[:1]], *filter(_can_be_run, texts))
    if os.path.basename(argv[0]) in _WRAPPERS:
        inner = [at for at in files if os.access(argv[at], os.X_OK)]
        inner += [at for at, word in enumerate(argv) if at and (_is_interpreter(word) or word in _WRAPPERS)]
        return (program, *(programs(argv[min(inner) :], _found(argv[min(inner)])) if inner else ()))
    return (program,)


def _found(word: str) -> str:
    from drbdbackup import proc  # what only reads the configuration starts nothing

    return proc.find(word) or word


def _is_interpreter(word: str) -> bool:
    return os.path.basename(word).rstrip(_VERSION) in _INTERPRETERS


def _can_be_run(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with suppress(OSError), open(path, "rb") as file:
        return os.access(path, os.X_OK) or file.read(2) == b"#!"
    return True


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
        if here.startswith("/proc/") and not left:  # a descriptor of ours: no link that anybody else can bend
            return
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        left[:0] = target.split("/")
        at = "/" if target.startswith("/") else at
