"""The conversation with the job that looks through the manifests of copies on a medium.

It sends `VersionFound` for each path that is meant, then `Searched` for the snapshot, or `Unread`, at last `Ended`.
"""

from __future__ import annotations

from drbdbackup.pipeline.cage.protocol import Conversation, Ended, JobEvent
from drbdbackup.pipeline.copies.read_protocol import ReadJob, Unread
from drbdbackup.pipeline.explore.versions import Version
from drbdbackup.pipeline.progress import Progress


class FindJob(ReadJob, frozen=True, kw_only=True):
    """Look through these `snapshots` for `pattern`."""

    pattern: bytes
    snapshots: tuple[str, ...]


class VersionFound(JobEvent, frozen=True, tag="version"):
    """What a path is in a snapshot."""

    snapshot: str
    path: str
    version: Version


class Searched(JobEvent, frozen=True):
    """All of a snapshot was looked through."""

    snapshot: str


FindEvent = Progress | VersionFound | Searched | Unread
FIND: Conversation[FindJob, FindEvent, Ended] = Conversation("find", FindJob, Ended, FindEvent)
