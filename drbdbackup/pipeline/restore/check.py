"""Compares a restored tree with the manifest: every entry there, its type, size and link target; contents where needed;
and, where nothing was before, nothing else.

Contents are proven without being read again: whoever transferred them has hashed them, and the sum over those must be
the manifest's. Only if it is not (or nothing new was made) are the files read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import inode_and_hash, is_aside, largest, shape
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools.rsync import Item

_RING = 1 << 128


class RestoreCheck:
    """One check of one restore; `problems` says what differs."""

    def __init__(self, can: Abilities, on_piece: Callable[[], None]) -> None:
        """`can` is what the medium could hold: where it knew hard links, rsync prints one hash for each inode.

        `on_piece` is called while files are read.
        """
        self.problems: list[Problem] = []
        self._can = can
        self._hashes = ContentHashes(lambda _: on_piece())
        self._there = 0
        self._wanted = 0
        self._files: set[tuple[int, str]] = set()
        self._has_read = False
        self._secret = os.urandom(32)

    @property
    def is_content_in_doubt(self) -> bool:
        """Whether what was transferred is not, all in all, what the manifest says."""
        return not self._has_read and self._there != self._wanted

    def add(self, item: Item, base: bytes = b"") -> None:
        """rsync has transferred a file; `base` is the folder that it calls it from, with a slash."""
        if item.hash:
            self._has(base + item.path, item.hash)

    def add_file(self, one: Recorded, content: str) -> None:
        """A file was restored without rsync; `content` is the hash of what was read."""
        self._has(one.entry.path, content.encode())

    def _has(self, path: bytes, content: bytes) -> None:
        self._there = (self._there + self._term(path, content)) % _RING

    def all(
        self, folder: int, pairs: Iterable[tuple[Recorded | None, Entry | None]], on_entry: Callable[[], None], *,
        content: bool, only: bytes | None = None, since: int | None = None,
    ) -> None:  # fmt: skip
        """Compare all that is wanted with what is present in the open folder, in `pairs`; `content`: read every file.

        `only` is the path at and below which something may be (b"" for all), None if others may have put things there.
        Of those nothing may have come `since` (ns), if that is given: a peer sends what it likes.
        """
        self._has_read = self._has_read or content
        opener = ParentOpener(folder)
        try:
            for one, there in pairs:
                on_entry()
                if one is None:
                    if there is not None and _is_unasked(there, only, since):
                        self.problems.append(Problem.at(there.path, "is not in the snapshot's manifest, but was sent"))
                    continue
                self._expect(one)
                why = "is not there" if there is None else shape(one, there)
                if content and not why and one.entry.kind == b"f":
                    why = self._reads_other(opener, one)
                if why:
                    self.problems.append(Problem.at(one.entry.path, why))
        finally:
            opener.close()

    def _expect(self, one: Recorded) -> None:
        if one.entry.kind != b"f" or not one.hash or is_aside(one):
            return
        if self._can.hard_links and one.entry.nlink > 1:
            if inode_and_hash(one) in self._files:
                return
            self._files.add(inode_and_hash(one))
        self._wanted = (self._wanted + self._term(one.entry.path, one.hash.encode())) % _RING

    def _term(self, path: bytes, content: bytes) -> int:
        """What a file adds to the sum: another one for another name, and none that can be computed beforehand.

        Whoever can write to the medium could let files change places, or make some whose sum is right.
        """
        from hashlib import blake2b

        return int.from_bytes(blake2b(path + b"\0" + content, key=self._secret, digest_size=16).digest(), "big")

    def _reads_other(self, opener: ParentOpener, one: Recorded) -> str:
        try:
            above, name = opener.parent(one.entry.path)
            found = self._hashes.of(above, name, names=one.entry.nlink, most=largest(one) + 1)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return "" if found == one.hash else "has another content than was backed up"


def _is_unasked(there: Entry, only: bytes | None, since: int | None) -> bool:
    """Whether an entry that the manifest does not have came with the restore. A folder that was there may look new."""
    if only is not None:
        return not (only + b"/").startswith(_below(there))
    return since is not None and there.kind != b"d" and there.ctime >= since


def _below(there: Entry) -> bytes:
    """How the paths of what is in a folder begin; of nothing else for what is none."""
    if there.path == ROOT:
        return b""
    return there.path + (b"/" if there.kind == b"d" else b"\0")
