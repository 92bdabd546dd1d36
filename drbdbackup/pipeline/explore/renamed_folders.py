"""Which folders were only renamed: one is gone, and one came, with all that is in them exactly alike. Pure.

A folder counts as renamed only if nothing else about it differs that a comparison tells, so that one line for it hides
nothing. What of it is held are the digests of folders, and of no more than `KEPT` of each side.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from drbdbackup.manifest import SETTLED, Recorded, order
from drbdbackup.pipeline.explore.diff_protocol import RenamedFolder
from drbdbackup.targets.sidecar import KEPT_PROBLEMS

KEPT = 20_000  # folders


class _WholeFolder(Struct, kw_only=True):
    """One that is gone, or came, whole. `content` is the digest of all that is in it with its hashes, `inodes` with its
    inodes; b"" where that is not known for all of it. `first` is the place of the first record below it.
    """

    path: bytes
    first: int
    content: Any
    inodes: Any
    entries: int = 1
    bytes: int = 0
    files: int = 0


class WholeFolders:
    """The folders of one side of which every entry is on that side only. Entries come in merge order."""

    def __init__(self) -> None:
        """None yet."""
        import xxhash

        self._hash = xxhash.xxh128
        self._open: list[_WholeFolder] = []
        self._ended: list[_WholeFolder] = []

    def add(self, one: Recorded, *, is_sure: bool = True) -> None:
        """An entry that only this side has. Not `is_sure`: what is in it is not known."""
        entry = one.entry
        self._close(entry.path)
        if entry.kind == b"d":
            about = b"%o %d %d" % (entry.mode, entry.uid, entry.gid)
            folder = _WholeFolder(
                path=entry.path, first=len(self._ended), content=self._hash(about),
                inodes=self._hash(about + b" %d" % entry.inode),
            )  # fmt: skip
            if not is_sure:
                folder.content = folder.inodes = None
            self._open.append(folder)
        elif self._open:
            above = self._open[-1]
            above.entries += 1
            above.bytes += entry.size if entry.kind == b"f" else 0
            above.files += 1
            content, inode = _description(one) if is_sure else (b"", b"")
            _feed(above, entry.path, content, inode)

    def ended(self) -> list[_WholeFolder]:
        """All of them in merge order, once nothing more comes."""
        self._close(None)
        return sorted(self._ended, key=lambda folder: order(folder.path))

    def _close(self, path: bytes | None) -> None:
        while self._open and (path is None or not path.startswith(self._open[-1].path + b"/")):
            folder = self._open.pop()
            folder.content, folder.inodes = _digest(folder.content), _digest(folder.inodes)
            if self._open:
                above = self._open[-1]
                above.entries += folder.entries
                above.bytes += folder.bytes
                above.files += folder.files
                _feed(above, folder.path, folder.content, folder.inodes)
            if len(self._ended) >= KEPT:  # where the whole folder is one line, what is below it is not needed
                del self._ended[folder.first :]
            if len(self._ended) < KEPT:
                self._ended.append(folder)


def renamed(gone: WholeFolders, came: WholeFolders) -> tuple[RenamedFolder, ...]:
    """The first 1000 of them, none of which lies in another: each is reported once, by its old and its new path."""
    left = gone.ended()
    by_digest: dict[bytes, list[_WholeFolder]] = {}
    for folder in left:
        for digest in _digests(folder):
            by_digest.setdefault(digest, []).append(folder)
    taken: set[bytes] = set()
    found: list[RenamedFolder] = []
    inside = b""
    for folder in came.ended():
        if inside and folder.path.startswith(inside):
            continue
        before = next((one for one in _alike(folder, by_digest) if not _is_below(one.path, taken)), None)
        if before is None:
            continue
        taken.add(before.path)
        inside = folder.path + b"/"
        paths = os.fsdecode(before.path), os.fsdecode(folder.path)
        found.append(RenamedFolder(*paths, folder.entries, folder.bytes))
        if len(found) == KEPT_PROBLEMS:
            break
    return tuple(found)


def _alike(folder: _WholeFolder, by_digest: dict[bytes, list[_WholeFolder]]) -> Iterator[_WholeFolder]:
    """The hashes of both decide, where all of them are known."""
    for digest in _digests(folder):
        found = by_digest.get(digest, ())
        yield from (one for one in found if one.content == folder.content or not (one.content and folder.content))


def _digests(folder: _WholeFolder) -> Iterator[bytes]:
    """By which it is known again. Folders of nothing but folders are alike too easily."""
    if folder.inodes:
        yield b"i" + folder.inodes
    if folder.content and folder.files:
        yield b"c" + folder.content


def _is_below(path: bytes, taken: set[bytes]) -> bool:
    """Whether it is one of these, or in one of these, or has one of these in it."""
    parts = path.split(b"/")
    above = {b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return bool(above & taken) or any(one.startswith(path + b"/") for one in taken)


def _description(one: Recorded) -> tuple[bytes, bytes]:
    """All about an entry that a comparison would tell, with its hash and with its inode; b"" where that is no proof."""
    entry = one.entry
    mode = 0 if entry.kind == b"l" else entry.mode
    about = b"%b %o %d %d %d %d %d %b" % (
        entry.kind, mode, entry.uid, entry.gid, entry.size, entry.mtime, entry.rdev, entry.link
    )  # fmt: skip
    content = about + b" " + one.hash.encode() if one.hash or entry.kind != b"f" else b""
    inode = about + b" %d %d" % (entry.inode, entry.ctime) if one.flag.lower() == SETTLED else b""
    return content, inode


def _feed(above: _WholeFolder, path: bytes, content: bytes, inode: bytes) -> None:
    name = path[len(above.path) + 1 :]
    above.content = _fed(above.content, name, content)
    above.inodes = _fed(above.inodes, name, inode)


def _fed(digest: Any, name: bytes, value: bytes) -> Any:
    """Names and links may hold anything but a zero byte and, a name, a slash."""
    if digest is None or not value:
        return None
    digest.update(b"%d %d " % (len(name), len(value)) + name + value)
    return digest


def _digest(digest: Any) -> bytes:
    return b"" if digest is None else digest.digest()
