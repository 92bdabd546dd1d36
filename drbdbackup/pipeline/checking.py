"""Holds a restored tree against the manifest: every entry there, its type, size and link target; contents where needed.

Contents are proven without being read again: rsync told the hash of what it brought, and the sum over those must be the
manifest's. Only if it is not (or nothing new was made) are the files read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from drbdbackup.manifest import Entry, Recorded
from drbdbackup.pipeline.compare import is_aside, paired, shape
from drbdbackup.pipeline.lying import drop_cached
from drbdbackup.pipeline.trees import Descent
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools.rsync import Item

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20
_RING = 1 << 128


class Check:
    """One check of one restore; `problems` says what differs."""

    def __init__(self, can: Abilities, on_piece: Callable[[], None]) -> None:
        """`can` is what the medium could hold: where it knew hard links, rsync tells one hash for each inode.

        `on_piece` is called while files are read.
        """
        self.problems: list[tuple[bytes, str]] = []
        self._can = can
        self._on_piece = on_piece
        self._brought = 0
        self._wanted = 0
        self._inodes: set[int] = set()
        self._has_read = False

    @property
    def is_content_in_doubt(self) -> bool:
        """Whether what rsync brought is not, all in all, what the manifest says."""
        return not self._has_read and self._brought != self._wanted

    def brought(self, item: Item) -> None:
        """rsync has brought a file."""
        if item.hash:
            self._brought = (self._brought + int(item.hash, 16)) % _RING

    def all(
        self, folder: int, wanted: Iterator[Recorded], present: Iterator[Entry], on_entry: Callable[[], None],
        content: bool,
    ) -> None:  # fmt: skip
        """Compare everything wanted with what is present in the open folder; `content` has every file read."""
        self._has_read = self._has_read or content
        descent = Descent(folder)
        try:
            for one, there in paired(wanted, present):
                on_entry()
                if one is None:
                    continue
                self._expect(one)
                why = "is not there" if there is None else shape(one, there)
                if content and not why and one.entry.kind == b"f":
                    why = self._reads_other(descent, one)
                if why:
                    self.problems.append((one.entry.path, why))
        finally:
            descent.close()

    def _expect(self, one: Recorded) -> None:
        if one.entry.kind != b"f" or not one.hash or is_aside(one):
            return
        if self._can.hard_links and one.entry.nlink > 1:
            if one.entry.inode in self._inodes:
                return
            self._inodes.add(one.entry.inode)
        self._wanted = (self._wanted + int(one.hash, 16)) % _RING

    def _reads_other(self, descent: Descent, one: Recorded) -> str:
        try:
            above, name = descent.parent(one.entry.path)
            found = content_hash(above, name, self._on_piece)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return "" if found == one.hash else "has another content than was backed up"


def content_hash(folder: int, name: bytes, on_piece: Callable[[], None], from_medium: bool = False) -> str:
    """xxh128 of a file in an open folder, in hex; `from_medium`: not from what memory holds of it. Raises OSError."""
    import xxhash

    state = xxhash.xxh128()
    handle = os.open(name, _READ, dir_fd=folder)
    try:
        if from_medium:
            drop_cached(handle)
        while piece := os.read(handle, _PIECE):
            state.update(piece)
            on_piece()
        if from_medium:
            drop_cached(handle)
    finally:
        os.close(handle)
    return state.hexdigest()
