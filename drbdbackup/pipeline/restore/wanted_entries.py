"""What a restore wants of a snapshot: the entries of its manifest at and below one path."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from drbdbackup import manifest
from drbdbackup.errors import NotInSnapshot
from drbdbackup.manifest import Recorded
from drbdbackup.pipeline.files.compare import folders_above, lines_below, recorded_below

_FEW = 1000  # lines that are kept in memory


class WantedEntries(Struct, frozen=True):
    """What is at and below `top` (b"" for all) in the manifest `file`; `above` are the folders that this is in.

    `few` are the lines about it, if they are so few that they were kept: else each pass reads the manifest.
    """

    file: str
    top: bytes
    above: tuple[Recorded, ...]
    few: tuple[bytes, ...] | None

    @contextmanager
    def recorded(self) -> Iterator[Iterator[Recorded]]:
        """Them, for a caller that may stop before the end."""
        with _lines(self.file, self.few) as lines:
            yield recorded_below(lines, self.top)

    def read(self) -> Iterator[Recorded]:
        """Them, for a caller that reads to the end."""
        with self.recorded() as wanted:
            yield from wanted

    @property
    def base(self) -> bytes:
        """The folder that the top is in, with a slash; b"" if that is the volume's top."""
        return self.top.rpartition(b"/")[0] + b"/" if b"/" in self.top else b""


def find(file: str, top: bytes, snapshot: str) -> WantedEntries:
    """Look for what is at and below `top` in the manifest `file` of this snapshot. Raises NotInSnapshot."""
    few = _few(file, top) if top else None
    with _lines(file, few) as lines:
        return WantedEntries(file, top, tuple(_above(lines, top, snapshot)), few)


def _few(file: str, top: bytes) -> tuple[bytes, ...] | None:
    with manifest.reading(file) as lines:
        found = tuple(itertools.islice(lines_below(lines, top), _FEW + 1))
    return found if len(found) <= _FEW else None


@contextmanager
def _lines(file: str, few: tuple[bytes, ...] | None) -> Iterator[Iterator[bytes]]:
    """The lines of the manifest, as far as they are about what is wanted; perhaps others, too."""
    if few is not None:
        yield iter(few)
        return
    with manifest.reading(file) as lines:
        yield lines


def _above(lines: Iterator[bytes], top: bytes, snapshot: str) -> list[Recorded]:
    """The folders above `top`, which must be there. Raises NotInSnapshot."""
    parents, above = folders_above(top), list[Recorded]()
    for one in recorded_below(lines, top, parents):
        if one.entry.path not in parents:
            return above
        above.append(one)
    there = above[-1].entry.path if above else b""
    hint = f"It has {os.fsdecode(there)!r}, and not that in it." if there else "Paths begin at the volume's top."
    raise NotInSnapshot(f"{os.fsdecode(top)!r} is not in the snapshot {snapshot}", hint)
