"""Owners, modes, times, ACLs and extended attributes of single entries, read and given back.

rsync does this for almost everything; this is for what it cannot: the root folder itself, and what a share could not
hold and the manifest kept. It must never follow a symlink.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from drbdbackup.manifest import Entry

_UNSUPPORTED = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOENT, errno.ELOOP)


def attributes(path: bytes | str) -> dict[bytes, bytes]:
    """The extended attributes (POSIX ACLs are two of them) of an entry, not of what it links to."""
    found: dict[bytes, bytes] = {}
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    return found


def give(
    path: bytes | str, entry: Entry, extended: Mapping[str, bytes], owners: bool = True, modes: bool = True
) -> tuple[str, ...]:
    """Give `path` the entry's owner, attributes, mode and times; what could not be given, in words.

    Owner first (it clears setuid), then attributes, mode, and times last.
    """
    lost: list[str] = []
    if owners:
        _attempt(lost, "owner", lambda: os.chown(path, entry.uid, entry.gid, follow_symlinks=False))
    for name, value in extended.items():
        _attempt(lost, name, lambda name=name, value=value: os.setxattr(path, name, value, follow_symlinks=False))  # type: ignore[misc]
    if modes and entry.kind != b"l":
        _attempt(lost, "mode", lambda: os.chmod(path, entry.mode))
    times = (entry.mtime, entry.mtime)
    _attempt(lost, "times", lambda: os.utime(path, ns=times, follow_symlinks=False))
    return tuple(lost)


def _attempt(lost: list[str], what: str, effect: Callable[[], object]) -> None:
    try:
        effect()
    except OSError as error:
        lost.append(f"{what}: {error.strerror}")
