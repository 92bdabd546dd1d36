"""The caged job that reads one part of what an engine keeps on a medium again: of all copies at once.

The copies share what they are made of, and reading the part of each would fetch the same again and again over a long
line. So the engine holds its own packs against their names, and says which copies need one that is damaged. It does not
hold a file against the manifest: `verify` does, and only that makes a copy verified.

A part for which one night is not enough is read in pieces. They are numbered as in a heap: 1 is all of the part, and
2n and 2n + 1 are the halves of piece n. So one number says how far it is.
"""

from __future__ import annotations

from time import monotonic

from msgspec import Struct, field

from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Alive
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.verify.scrub_protocol import CopyScrubbed, ScrubEnd, ScrubJob
from drbdbackup.targets.medium import MOST_PARTS, Engine

_WAIT = 0.5  # seconds


class _Reading(Struct):
    """One night: the `piece` that is next, None after the last one, and what was found `damaged` so far."""

    job: ScrubJob
    engine: Engine
    channel: Channel
    until: float
    piece: int | None
    damaged: dict[str, str] = field(default_factory=dict)

    def read(self) -> None:
        """Read pieces until the part is read, something did not come, or the time is over."""
        took = 0.0
        while self.piece is not None and (not took or monotonic() + took < self.until):
            begun, is_first = monotonic(), not took
            if not self._read(self.piece):
                if is_first and monotonic() > self.until:
                    self.piece = first_half(self.piece, self.job.of)
                break
            took, self.piece = monotonic() - begun, following(self.piece)

    def _read(self, piece: int) -> bool:
        """Whether all of it was read."""
        number, of = as_part(self.job.part, self.job.of, piece)
        checking, activity, in_time = self.engine.check_part(number, of), -1, True
        try:
            while in_time and not checking.has_ended(_WAIT):
                before, activity = activity, checking.activity()
                if activity != before:
                    self.channel.send_progress(Alive())
                in_time = monotonic() <= self.until
        finally:
            checking.end()
        with self.channel.beating():
            found = self.engine.damaged(self.job.copy.resource, checking)
        self.damaged.update(found.damaged)
        return in_time and found.is_whole


def read(job: ScrubJob, engine: Engine, channel: Channel) -> ScrubEnd:
    """Read the part, or go on with it; what was found damaged until then is said.

    Raises TargetError if nothing is proven.
    """
    piece = (job.left[1] if job.left else 0) or first_of_the_size(job.before)
    reading = _Reading(job, engine, channel, monotonic() + job.seconds, piece)
    reading.read()
    is_whole = reading.piece is None
    for name in job.snapshots:
        found = (Problem("", reading.damaged[name]),) if name in reading.damaged else ()
        if is_whole or found:
            channel.send(CopyScrubbed(
                snapshot=name, is_whole=is_whole, files=0, bytes=0, problems=found, problem_count=len(found),
            ))  # fmt: skip
    return ScrubEnd(None if reading.piece is None else ("", reading.piece))


def as_part(part: int, of: int, piece: int) -> tuple[int, int]:
    """A piece of a part as a smaller part of everything: its number, and of how many it is one."""
    pieces = 1 << (piece.bit_length() - 1)
    return part + of * (piece - pieces), of * pieces


def following(piece: int) -> int | None:
    """The next piece of the same size, None after the last one."""
    return piece + 1 if (piece + 1) & piece else None


def first_half(piece: int, of: int) -> int:
    """What a piece begins with, or itself if the engine knows no smaller one."""
    return 2 * piece if as_part(0, of, 2 * piece)[1] <= MOST_PARTS else piece


def first_of_the_size(piece: int) -> int:
    """The piece that a part begins with if it is read in pieces of that size; of 0 that is all of it."""
    return 1 << max(0, piece.bit_length() - 1)
