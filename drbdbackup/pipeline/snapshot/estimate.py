"""What a copy will need on its target: the same plan as a real one, and nothing is done with it.

Whatever it says is a forecast: only what is certain may stop a copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from drbdbackup.manifest import path_of
from drbdbackup.pipeline.snapshot.copy_protocol import Room
from drbdbackup.pipeline.snapshot.plan import Base, Planned, Planner, Step, size_of
from drbdbackup.scan import HOLED, Spool, allocated
from drbdbackup.targets.medium import Medium

_COPIES = (Step.COPY, Step.COPY_GROUP)
_MANIFEST_LINE = 60  # bytes of an entry, packed
_EXACT = ("ext2", "ext3", "ext4", "xfs", "vfat", "exfat", "tmpfs")  # what neither packs nor shares what is written
_ANY = 1 << 62  # bytes
_BEAT = 0xFFF  # entries between two signs of life


class CopyEstimate(Struct):
    """Counts of entries and of those to be copied. Bytes: `content` is at least what is written, holes left out;
    `laid_out` is that with what whole blocks, folders and the manifest take.
    """

    entries: int = 0
    copied: int = 0
    copied_bytes: int = 0
    gone: int = 0
    content: int = 0
    laid_out: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """What a dry run says."""
        return {name: getattr(self, name) for name in ("entries", "copied", "copied_bytes", "gone")}


class Space(Struct, frozen=True):
    """Bytes that can be written on a medium, now and if nothing were on it; `block` is the least that a file takes."""

    free: int
    total: int
    block: int
    is_exact: bool

    def refuses(self, estimate: CopyEstimate) -> bool:
        """Whether it is certain that this does not fit."""
        return self.is_exact and estimate.content > self.free


def space(medium: Medium) -> Space:
    """The space on a medium; nobody knows that of an engine. Raises OSError."""
    if medium.engine is not None:
        return Space(_ANY, _ANY, 1, is_exact=False)
    seen = os.statvfs(medium.root)
    free = seen.f_bavail * seen.f_frsize
    used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    return Space(free, used + free, seen.f_frsize, medium.fstype in _EXACT)


def estimate_copy(
    lines: Iterable[bytes], planner: Planner, bases: Sequence[Base], *, source: str, block: int,
    tell: Callable[[int], None], look: Callable[[Planned], None] = lambda _: None,
) -> CopyEstimate:  # fmt: skip
    """Plan for the spool's `lines`, which are waited for; `bases` are the planner's, or what only counts as gone.

    `tell` gets now and then how many entries were met; `look` gets each as it is planned. `block` is in bytes.
    """
    estimate = CopyEstimate()

    def gone(_: bytes) -> None:
        estimate.gone += 1

    for base in bases[:1]:
        base.on_gone = gone
    for line in lines:
        estimate.entries += 1
        planned = planner.decide(line)
        look(planned)
        step = planned.step
        if step in _COPIES and planner.alike[0] < 0:  # else most likely it has the content that is there: it is linked
            estimate.copied += 1
            estimate.copied_bytes += size_of(line)
            content = _written(line, source)
            estimate.content += content
            estimate.laid_out += -(-content // block) * block
        elif step is Step.FOLDER:
            estimate.laid_out += block
        estimate.laid_out += _MANIFEST_LINE
        if not estimate.entries & _BEAT:
            tell(estimate.entries)
    for base in bases:
        base.finish()
    return estimate


def shortage(estimate: CopyEstimate, there: Space, bases: Sequence[Base], spool: Spool) -> Room:
    """What the supervisor learns of the room on a target: bytes needed and free, the base, the walk's totals."""
    totals = spool.totals
    return Room(
        needs=estimate.laid_out, free=there.free, refused=there.refuses(estimate),
        base=os.path.basename(os.path.dirname(bases[0].data)) if bases else "",
        files=totals.files if totals else 0, bytes=totals.bytes if totals else 0,
        allocated=totals.allocated if totals else 0,
    )  # fmt: skip


def _written(line: bytes, source: str) -> int:
    """Bytes that copying this entry writes: a name's part of its inode's content, and no holes."""
    size = size_of(line)
    if not size:
        return 0
    fields = line.split(b" ", 9)
    if size >= HOLED:
        size = min(size, _allocated(source, line))
    return size // max(1, int(fields[8]))


def _allocated(source: str, line: bytes) -> int:
    try:
        seen = os.lstat(os.path.join(os.fsencode(source), path_of(line)))
    except OSError:  # it vanished: then it is not copied
        return 0
    return allocated(seen)
