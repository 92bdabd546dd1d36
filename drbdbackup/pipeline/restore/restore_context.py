"""What every phase of a restore knows: the job, the copy, what is wanted of it, and how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from msgspec import Struct, field

from drbdbackup.manifest import Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.tree import Excluded
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.restore import delete_surplus
from drbdbackup.pipeline.restore.apply_metadata import is_needed
from drbdbackup.pipeline.restore.restore_protocol import AnyRestoreJob
from drbdbackup.pipeline.restore.wanted_entries import WantedEntries


class RestoreProgress(Struct):
    """How far a restore is: entries `done` in this phase, bytes `copied`, entries `changed`, and problems so far."""

    channel: Channel
    done: int = 0
    copied: int = 0
    changed: int = 0
    problems: list[Problem] = field(default_factory=list)

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.send_progress(Progress(self.done, self.copied, self.copied))

    def step(self) -> None:
        """One more entry is done."""
        self.done += 1
        if not self.done & 0xFF:
            self.tell()

    def add_copied(self, length: int) -> None:
        """So many bytes were copied; below 0, taken back."""
        self.copied += length
        self.tell()


class RestoreContext(Struct, frozen=True):
    """One restore. `mountpoints` are those in the destination, and those in the volume when the snapshot was made."""

    job: AnyRestoreJob
    copy: OpenCopy
    wanted: WantedEntries
    mountpoints: frozenset[bytes]
    progress: RestoreProgress

    @property
    def restores_plain_files(self) -> bool:
        """Whether plain files need no rsync: nothing was there before, and the medium holds all that they have."""
        return not (self.job.over or self.copy.shell or is_needed(self.copy.can))

    def scratch(self, name: str) -> str:
        """A file of the job's own."""
        return os.path.join(self.job.copy.scratch, name)

    def present(
        self, folder: int, on_problem: Callable[[Problem], None] = lambda _: None, excluded: Excluded | None = None, *,
        all_there: bool = False,
    ) -> Iterator[Entry]:  # fmt: skip
        """What is in the open destination now, at and below what is wanted, or `all_there` is."""
        top = b"" if all_there else self.wanted.top
        return tree.entries(folder, top, on_problem, excluded, self.mountpoints)

    def surplus(
        self, folder: int, *, in_the_way: bool = False,
        seen: Callable[[Recorded | None, Entry | None], None] = lambda *_: None,
    ) -> Iterator[Entry]:  # fmt: skip
        """What the open volume holds and the snapshot does not; what cannot be looked at is not judged."""
        sidecar, points = self.copy.sidecar, self.mountpoints
        there = self.present(folder, excluded=delete_surplus.spared(sidecar, self.job.exclude))
        return delete_surplus.surplus(self.wanted.read(), there, sidecar, points, in_the_way=in_the_way, seen=seen)
