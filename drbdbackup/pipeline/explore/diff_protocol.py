"""The conversation with the job that compares two manifests: it sends its `Progress`, and ends with `DiffResult`."""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.model.mount import MountIdentity
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import CageJob, Conversation, JobEvent
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.volume.source_protocol import SourceJob


class WalkedVolume(Struct, frozen=True):
    """The volume as a walk has just seen it: one of the two sides is its `spool`. See `SourceJob`.

    `patience` is how many seconds the spool may take to grow.
    """

    source: str
    mounted: MountIdentity | None
    spool: str
    patience: float


class DiffJob(CageJob, frozen=True, kw_only=True):
    """Compare the files `before` and `after`: manifests, or the spool of `volume`.

    What differs goes to the file `into`, a JSON object on each line. `scratch` is a folder of the job's own. `path` is
    what alone is compared, with what lies below it; "" for everything.
    """

    before: str
    after: str
    into: str
    scratch: str
    volume: WalkedVolume | None
    path: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The volume, if it is one of the sides."""
        return (self.volume.source,) if self.volume else ()

    @property
    def own_folder(self) -> str:
        """Where the manifests are."""
        return self.scratch

    @property
    def to_guard(self) -> SourceJob | None:
        """What is needed to guard the volume."""
        if self.volume is None:
            return None
        return SourceJob(here=self.here, source=self.volume.source, mounted=self.volume.mounted)


class RenamedFolder(Struct, frozen=True):
    """A folder that is elsewhere with all that is in it, and otherwise the same: its `entries`, itself among them, and
    the bytes of its files. Each of these is also listed as removed and as added.
    """

    before: str
    after: str
    entries: int
    bytes: int


class DiffResult(JobEvent, frozen=True, tag="done"):
    """What came of it: entries and bytes of files by `ChangeKind`, entries that are the `same`.

    `problems` are the first 1000 of `problem_count`: what the walk or the job could not read.
    `renamed` are the first 1000 folders that were.
    """

    counts: dict[str, int]
    bytes: dict[str, int]
    same: int
    problem_count: int
    problems: tuple[Problem, ...]
    renamed: tuple[RenamedFolder, ...] = ()


DIFF: Conversation[DiffJob, Progress, DiffResult] = Conversation("diff", DiffJob, DiffResult, Progress)
