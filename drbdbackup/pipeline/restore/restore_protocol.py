"""The two conversations with the job that restores: a look at what that would do, and the restore itself.

Both send their `Progress`; a look ends with `RestoreLook`, a restore with `RestoreResult`. Before a restore in place
writes anything it says `ReadyToReplace` and waits for `Replace`: as long as that was not said, the volume is as it
was.
"""

from __future__ import annotations

from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Answer, Conversation, JobEvent
from drbdbackup.pipeline.copies.read_protocol import ReadJob
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.volume.destination_protocol import Destination, OverVolume


class AnyRestoreJob(ReadJob, frozen=True, kw_only=True):
    """Of the copy what is at `path` ("" for all); in the volume, what `exclude` matches is never deleted."""

    path: str
    destination: Destination
    exclude: tuple[str, ...]

    @property
    def in_place(self) -> bool:
        """Whether it goes over the live volume."""
        return isinstance(self.destination, OverVolume)

    @property
    def over(self) -> bool:
        """Whether something may be there already."""
        return isinstance(self.destination, OverVolume) or self.destination.merge

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it goes. A volume that is not named is let go of: a failover waits for nobody."""
        return (self.destination.path,)


class LookJob(AnyRestoreJob, frozen=True, kw_only=True, tag_field="step", tag="look"):
    """What would be restored and deleted; nothing is written."""


class RestoreJob(AnyRestoreJob, frozen=True, kw_only=True, tag_field="step", tag="restore"):
    """Restore it."""


class ReadyToReplace(JobEvent, frozen=True):
    """All that can be looked at beforehand was. Nothing was written, and nothing will be before the answer."""


class Replace(Answer, frozen=True):
    """It is written down that the volume is being replaced."""


class RestoreLook(JobEvent, frozen=True, kw_only=True, tag="done"):
    """What a restore would do.

    It would restore so many `entries`, `files` and `bytes`, of which `needs` have to be `free` (None: not known), and
    for which so many inodes are missing there (`lacks_inodes`); `deleted` would go, of which `shown` are the first.
    `unread` entries could not be read when the copy was made, and `failed_above` says why what is wanted, or a folder
    above it, was not. `may_delete` is False where it is not known what the copy leaves out. `modified_ns` is the time
    of what is wanted, `inside` are the first names in it.
    """

    entries: int
    files: int
    bytes: int
    free: int | None
    needs: int
    lacks_inodes: int
    deleted: int
    deleted_bytes: int
    shown: tuple[str, ...]
    unread: int
    may_delete: bool
    modified_ns: int
    failed_above: tuple[str, ...]
    inside: tuple[str, ...]


class RestoreResult(JobEvent, frozen=True, kw_only=True, tag="done"):
    """What was restored and deleted. `problems` are the first 1000 of `problem_count`.

    `changed` are the entries in which rsync has changed something: content, or only what they have beside it.
    """

    entries: int
    files: int
    bytes: int
    deleted: int
    changed: int
    problems: tuple[Problem, ...]
    problem_count: int


LOOK: Conversation[LookJob, Progress, RestoreLook] = Conversation("restore", LookJob, RestoreLook, Progress)
RESTORE: Conversation[RestoreJob, Progress | ReadyToReplace, RestoreResult] = Conversation(
    "restore", RestoreJob, RestoreResult, Progress | ReadyToReplace
)
