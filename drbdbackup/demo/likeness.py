"""What a tree is, to the byte and the nanosecond, so that two can be compared. It only reads.

It shares no code with what makes and restores backups: a mistake there must not hide itself here.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from msgspec import Struct

NOT_OURS = (b".drbdbackup", b"lost+found")  # never part of a backup


class Seen(Struct, frozen=True, kw_only=True):
    """One entry. `content` is a hash, a symlink's target or empty; `first` is the first name of the same file."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    attributes: tuple[tuple[str, bytes], ...]
    content: bytes
    first: bytes


Likeness = dict[bytes, Seen]


def likeness(root: str) -> Likeness:
    """Every entry below `root` by its path, without what is never part of a backup."""
    first: dict[tuple[int, int], bytes] = {}
    return {path: _seen(os.path.join(os.fsencode(root), path), path, first) for path in _paths(os.fsencode(root))}


def differing(one: Likeness, other: Likeness) -> list[bytes]:
    """The paths that are only in one of them or not the same in both, sorted."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def count(tree: Likeness) -> tuple[int, int, int]:
    """Files, folders, and bytes in files."""
    files = [seen for seen in tree.values() if stat.S_ISREG(seen.mode)]
    folders = [seen for seen in tree.values() if stat.S_ISDIR(seen.mode)]
    return len(files), len(folders), sum(seen.size for seen in files)


def _paths(root: bytes) -> Iterator[bytes]:
    for folder, folders, files in os.walk(root):
        if folder == root:
            folders[:] = [name for name in folders if name not in NOT_OURS]
        folders.sort()
        for name in sorted([*folders, *files]):
            yield os.path.relpath(os.path.join(folder, name), root)


def _seen(full: bytes, path: bytes, first: dict[tuple[int, int], bytes]) -> Seen:
    status = os.lstat(full)
    folder = stat.S_ISDIR(status.st_mode)
    return Seen(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=0 if folder else status.st_size,
        mtime_ns=status.st_mtime_ns,
        attributes=tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in _attributes(full)),
        content=_content(full, status.st_mode),
        first=first.setdefault((status.st_dev, status.st_ino), path),
    )


def _attributes(full: bytes) -> list[str]:
    return sorted(os.listxattr(full, follow_symlinks=False))


def _content(full: bytes, mode: int) -> bytes:
    if stat.S_ISLNK(mode):
        return os.readlink(full)
    if not stat.S_ISREG(mode):
        return b""
    with open(full, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
