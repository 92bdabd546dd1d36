"""A manifest laid out plain on our own disk, looked up by path: a folder's entries, and nothing of the rest is held.

Lines come in merge order, so a place in the file is found by halving it. A subtree that nobody opens is stepped over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

from drbdbackup.errors import Damaged
from drbdbackup.manifest import ROOT, Recorded, is_safe, order, path_of, recorded, split


class ManifestIndex:
    """The lines of one manifest (see `manifest`); `file` is open for as long as this is used."""

    def __init__(self, file: BinaryIO) -> None:
        """Reads nothing yet."""
        self._file = file
        self._size = file.seek(0, 2)
        self._turn = threading.Lock()

    def children(self, folder: bytes) -> Iterator[Recorded]:
        """The entries of a folder (b"" for the top), in order, each read when it is asked for. Raises Damaged.

        Several of these may be under way at once, in several threads.
        """
        above = b"" if not folder else order(folder) + b"\0"
        at = self._first(above or b"\0", 0)
        while at < self._size:
            line, after = self._line(at)
            key = _key(line)
            if not key.startswith(above):
                return
            if b"\0" in key[len(above) :]:
                raise Damaged(f"the manifest has an entry without its folder: {line[:200]!r}")
            one = recorded(line)
            if one.entry.path == ROOT or not is_safe(one.entry.path):
                raise Damaged(f"the manifest has an invalid entry: {one.entry.path[:200]!r}")
            yield one
            at = self._first(key + b"\1", after) if one.entry.kind == b"d" else after

    def search(self, part: bytes, after: bytes, is_over: Callable[[], bool]) -> Recorded | None:
        """The next entry behind the path `after` (b"" for the top) that has this in its name, capitals or not.

        Behind the last one comes the first. None if there is no other, or nobody wants it any more. Raises Damaged.
        """
        start = self._first(order(after) + b"\0", 0) if after else 0
        wanted = part.lower()
        for low, high in ((start, self._size), (0, start)):
            at = low
            while at < high and not is_over():
                line, at = self._line(at)
                try:
                    path = path_of(split(line)[1])
                except IndexError:
                    raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None
                if wanted in path.rpartition(b"/")[2].lower() and path != ROOT:
                    return recorded(line)
        return None

    def _first(self, key: bytes, low: int) -> int:
        """Where the first line from `low` on stands whose key is not below this one; the end if there is none."""
        high = self._size
        if low < high and _key(self._line(low)[0]) >= key:  # an empty folder, mostly
            return low
        while low < high:
            middle = (low + high) // 2
            start = low if middle == low else self._line(middle - 1)[1]
            if start >= high:
                high = middle
                continue
            line, after = self._line(start)
            if _key(line) < key:
                low = after
            else:
                high = middle
        return low

    def _line(self, at: int) -> tuple[bytes, int]:
        """What stands from there to the end of the line, and where the next one begins."""
        with self._turn:
            self._file.seek(at)
            line = self._file.readline()
        return line, at + len(line)


def _key(line: bytes) -> bytes:
    try:
        return order(path_of(split(line)[1]))
    except IndexError:
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None
