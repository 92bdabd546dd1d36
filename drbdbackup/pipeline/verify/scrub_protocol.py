"""The conversation with the job that scrubs the copies on a medium.

It sends `CopyScrubbed` or `Unread` for each copy, its `Progress`, and at its end `ScrubEnd`.
"""

from __future__ import annotations

from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Conversation, JobEvent
from drbdbackup.pipeline.copies.read_protocol import ReadJob, Unread
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.verify.verify_protocol import NO_EXTRAS, Extras


class ScrubJob(ReadJob, frozen=True, kw_only=True):
    """Read `part` of `of` of each of `snapshots`, for `seconds` at most; `left` is where the last scrub stopped.

    `before` is what `left` said in the part before, 0 if that was read in one night. With an engine `left` names no
    snapshot, and a piece of the part (see `scrub_repository`).
    `ignore`: see `VerifyConfig`.
    """

    part: int
    of: int
    snapshots: tuple[str, ...]
    seconds: float
    left: tuple[str, int] | None
    before: int = 0
    ignore: tuple[str, ...]

    @property
    def is_idle_work(self) -> bool:
        """Yes: a failover, a run and the services come first."""
        return True


class CopyScrubbed(JobEvent, frozen=True, tag="scrubbed", kw_only=True):
    """What was found in one copy, and whether its part `is_whole`. `problems` are the first 1000 of `problem_count`."""

    snapshot: str
    is_whole: bool
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    problem_count: int
    extras: Extras = NO_EXTRAS


class ScrubEnd(JobEvent, frozen=True, tag="done"):
    """`left` is the snapshot that is not done, and how many of its entries are; None if all are."""

    left: tuple[str, int] | None


ScrubEvent = Progress | CopyScrubbed | Unread
SCRUB: Conversation[ScrubJob, ScrubEvent, ScrubEnd] = Conversation("scrub", ScrubJob, ScrubEnd, ScrubEvent)
