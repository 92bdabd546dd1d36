"""Owners, modes, times, ACLs and extended attributes of single entries, read and given back.

rsync does this for almost everything; this is for what it cannot: the root folder itself, and what a share could not
hold and the manifest kept. It must never follow a symlink.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from stat import S_ISGID, S_ISLNK, S_ISUID

from drbdbackup import open_flags
from drbdbackup.manifest import SETTLE_NS, Entry, is_odd_time

ACLS = "system.posix_acl_"
ACCESS = "system.posix_acl_access"
_DEFAULT = "system.posix_acl_default"
OURS = ("user.", "trusted.", "security.", ACLS)  # a share shows others of its own kind on every entry
PRIVILEGED = ("trusted.", "security.")  # what only root may give to an entry
# Whatever a security module of this system gives to each entry by itself. None of it grants what root alone may do.
_OF_MODULES = ("security.selinux", "security.apparmor", "security.SMACK64", "security.ima", "security.evm")
_OF_RSYNC = "user.rsync.%"  # rsync keeps such notes for itself, and never copies them
_MINIMAL_ACL = 4 + 3 * 8  # bytes: what the mode says, too
SET_ID = S_ISUID | S_ISGID
_AN_ACL = "ACL"  # in the words of rsync, which may have said the same
UNHELD_TIME = "the time cannot be held there"
_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOENT, errno.ELOOP)


def attributes(path: bytes | str | int) -> dict[bytes, bytes]:
    """The extended attributes (POSIX ACLs are two of them) of an entry, not of what it links to, or of an open one."""
    found: dict[bytes, bytes] = {}
    path, follows = _way(path), _is_open(path)
    try:
        for name in os.listxattr(path, follow_symlinks=follows):
            found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=follows)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return found


def gives_acls(folder: int) -> bool:
    """Whether what is made in an open folder gets an ACL from it."""
    return os.fsencode(_DEFAULT) in attributes(folder)


def is_acl(name: str) -> bool:
    """Whether an attribute is a POSIX ACL."""
    return name.startswith(ACLS)


def own(extended: Mapping[bytes, bytes] | Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of an entry's attributes that a copy of it must have, and no others."""
    found = {os.fsdecode(name): value for name, value in extended.items()}
    return {
        name: value for name, value in found.items()
        if name.startswith(OURS) and not name.startswith((*_OF_MODULES, _OF_RSYNC))
        and not (name == ACCESS and len(value) <= _MINIMAL_ACL)
    }  # fmt: skip


def write_metadata(
    path: bytes | str | int, entry: Entry, extended: Mapping[str, bytes], *, owners: bool = True, modes: bool = True
) -> tuple[str, ...]:
    """Give what is at `path`, or is open, the entry's owner, attributes, mode and times; what could not be given, in
    words.

    Owner first (it clears setuid), then attributes, mode, and times last.
    """
    lost: list[str] = []
    if owners:
        _attempt(lost, "owner", lambda: os.chown(_way(path), entry.uid, entry.gid, follow_symlinks=_is_open(path)))
    mode = entry.mode & ~SET_ID if lost and entry.kind == b"f" else entry.mode  # it would run as somebody else
    for name, value in extended.items():
        what = _AN_ACL if is_acl(name) else name
        _attempt(lost, what, lambda name=name, value=value: _set_attribute(path, name, value))  # type: ignore[misc]
    if modes and entry.kind != b"l":
        _attempt(lost, "mode", lambda: _chmod(path, mode))
    _attempt(lost, "times", lambda: _set_times(path, entry.mtime))
    return tuple(dict.fromkeys(lost))


def lacks(lost: Iterable[str]) -> frozenset[str]:
    """What `write_metadata` could not give, as the manifest has it."""
    found = {one.partition(":")[0] for one in lost}
    return frozenset("attributes" if "." in what or what == _AN_ACL else what for what in found)


def _is_open(path: bytes | str | int) -> bool:
    """Whether it is a descriptor, behind which nothing can be followed."""
    return isinstance(path, int)


def _way(path: bytes | str | int) -> bytes | str:
    """A path to it. What is open only to be looked at (O_PATH), which a symlink can be as well, takes no other."""
    return b"/proc/self/fd/%d" % path if isinstance(path, int) else path


def _set_attribute(path: bytes | str | int, name: str, value: bytes) -> None:
    """ext4 says of an attribute that is too large for it what it says of a full disk; others use other words."""
    try:
        os.setxattr(_way(path), name, value, follow_symlinks=_is_open(path))
    except OSError as error:
        at = _way(path) if isinstance(path, int) else os.path.dirname(path)
        if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE) and os.statvfs(at).f_bavail:
            raise OSError(error.errno, f"{len(value)} bytes are too many for an attribute there") from None
        raise


def _set_times(path: bytes | str | int, mtime: int) -> None:
    """A file system that cannot hold a time takes another one for it, and says nothing."""
    at, follows = _way(path), _is_open(path)
    os.utime(at, ns=(mtime, mtime), follow_symlinks=follows)
    if is_odd_time(mtime) and abs(os.stat(at, follow_symlinks=follows).st_mtime_ns - mtime) > SETTLE_NS:
        raise OSError(errno.EOVERFLOW, UNHELD_TIME)


def _chmod(path: bytes | str | int, mode: int) -> None:
    """chmod(2) would follow a symlink that has come here since somebody looked."""
    if isinstance(path, int):
        return os.chmod(_way(path), mode)
    fd = os.open(path, open_flags.PATH)
    try:
        if S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, "it has become a symlink")
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)
    return None


def take_attribute(path: bytes | str | int, name: str) -> None:
    """Remove an extended attribute. Raises OSError."""
    os.removexattr(_way(path), name, follow_symlinks=_is_open(path))


def _attempt(lost: list[str], what: str, effect: Callable[[], object]) -> None:
    try:
        effect()
    except OSError as error:
        lost.append(f"{what}: {error.strerror}")
