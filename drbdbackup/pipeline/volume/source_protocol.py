"""The fields that every job has that reads the replicated volume."""

from __future__ import annotations

import os
from typing import Never

from msgspec import Struct

from drbdbackup.model.mount import MountIdentity
from drbdbackup.pipeline.cage.protocol import CageJob, Conversation, Ended, JobEvent


class SnapshotMount(Struct, frozen=True):
    """An LVM snapshot that each job mounts for itself, in place of the volume.

    What changed before `started_ns` is in it. `left_out` are the mount points in the live volume, from its top.
    """

    kind: str
    device: str
    fstype: str
    started_ns: int
    left_out: tuple[str, ...]


class SourceJob(CageJob, frozen=True, kw_only=True):
    """Any job that reads it at `source`; `mounted` is what was there when it was judged (`guard.identity`).

    With `lvm_snapshot` it reads that snapshot, mounted at `source` in its cage only, and leaves the volume alone.
    """

    source: str
    mounted: MountIdentity | None
    lvm_snapshot: SnapshotMount | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the volume is, or the snapshot."""
        return (self.source,)


class WalkJob(SourceJob, frozen=True, kw_only=True):
    """The walk: into the file `spool`, without what `exclude` matches; with `tells_left_out` it says what that is."""

    exclude: tuple[str, ...]
    spool: str
    tells_left_out: bool = False

    @property
    def is_background_work(self) -> bool:
        """Yes: the services come first."""
        return True

    @property
    def own_folder(self) -> str:
        """Where its spool is."""
        return os.path.dirname(self.spool)


class WalkProgress(JobEvent, frozen=True, tag="progress"):
    """It has met so many entries."""

    seen: int


class Walked(JobEvent, frozen=True, tag="done"):
    """The walk is complete: its totals."""

    entries: int
    files: int
    bytes: int


class FlushJob(SourceJob, frozen=True, kw_only=True):
    """Bring to its disk what was written to it."""


WALK: Conversation[WalkJob, WalkProgress, Walked] = Conversation("walk", WalkJob, Walked, WalkProgress)
FLUSH: Conversation[FlushJob, Never, Ended] = Conversation("flush", FlushJob, Ended)
