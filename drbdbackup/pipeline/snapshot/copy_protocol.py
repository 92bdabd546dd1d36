"""The conversation between a run and the caged copy to one target, and between a dry run and its forecast.

The job for a target whose copies an engine keeps (`STORE`) says the same, but never that it has no room.

| the job says     | the run answers        |                                                               |
|------------------|------------------------|---------------------------------------------------------------|
| `Opened`         |                        | the target is the one that it was, and this lies on it        |
| `Progress`       |                        | how far it is                                                 |
| `Short`          | `MakeRoom`             | which copies may make way, oldest first                       |
| `Stuck`          | `LastCopies`           | whether its last copies may be given up for the new one       |
| `GivingUp`       | `Noted`                | from now on nobody counts on that copy                        |
| `Recycling`      | `Recycle`              | which snapshot's tree it begins with; that one is gone by now |
| `Ready`          | `Publish` or `HoldBack`| the copy is made                                              |
| `Published`      | `Finish`               | it has its name; which old ones go, which catalog is passed on|
| `Pruned`         |                        | an old one is gone                                            |
| `Fetched`        |                        | catalogs of other nodes that were on the medium               |
| `Done`           |                        | the end; of a dry run that is `Forecast`                      |

`Alive` and `Failed` may come at any time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.catalog.signatures import OwnKey
from drbdbackup.config.values import TargetConfig
from drbdbackup.model.generation import Generation
from drbdbackup.model.medium import KnownMedium
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Answer, Conversation, EndedRuns, JobEvent
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.target.target_protocol import Pruned, TargetJob
from drbdbackup.pipeline.volume.source_protocol import SourceJob

CopyBody = dict[str, Any]  # of a "copy" fact; what a medium says is judged by `bodies.copy_from`
Drops = tuple[tuple[str, str], ...]  # snapshots that go, with the reason of each


class TargetFacts(Struct, frozen=True, kw_only=True):
    """What this node's catalog says of a target, for a copy to it. `expected`, `ours`, `over`: see `TargetJob`.

    `damaged` are its snapshots found damaged, `verified` those found well since. `manifests` has the SHA-256 of the
    manifests on it, by snapshot, as the nodes that made them have recorded it, "" where they were of a version that did
    not; what is known from the medium alone is not in it. `sidecars` has that of what their sidecars say, where it was
    recorded. `keys` are the nodes' public keys. `incoming` is the folder for catalogs that lie on it, `known_files` the
    stamps of those that were taken in.
    """

    expected: KnownMedium | None
    damaged: frozenset[str]
    verified: frozenset[str]
    manifests: dict[str, str]
    sidecars: dict[str, str]
    keys: dict[str, str]
    nodes: tuple[str, ...]
    ours: tuple[str, ...]
    over: EndedRuns
    incoming: str
    known_files: dict[str, list[int]]


class CopyJob(SourceJob, frozen=True, kw_only=True):
    """One snapshot on one target, or (for a dry run) what it would need.

    The walk writes `spool`, and `patience` is how many seconds it may say nothing. `scratch` is a folder of the job's
    own. `problems` came before the walk, and are the snapshot's. `purpose` is "safety" for what a restore
    in place keeps. `key` signs what is noted for the next run. `rate` is how many bytes it may copy in a second, 0 for
    as many as it can. `positions` is the file by which those that copy the volume know how far each is, `reader` its
    number among them (see `files.page_cache`).
    """

    resource: str
    snapshot: str
    started_at: datetime
    target: TargetConfig
    exclude: tuple[str, ...]
    about: TargetFacts
    spool: str
    patience: float
    scratch: str
    problems: tuple[Problem, ...]
    purpose: str
    key: OwnKey
    rate: int
    positions: str
    reader: int

    @property
    def is_background_work(self) -> bool:
        """Yes, but for what a restore waits for: the services come first."""
        return not self.purpose

    @property
    def own_folder(self) -> str:
        """Where its lists are."""
        return self.scratch

    @property
    def to_open(self) -> TargetJob:
        """What is needed to open its target."""
        about = self.about
        return TargetJob(
            here=self.here, target=self.target, expected=about.expected, resource=self.resource, nodes=about.nodes,
            ours=about.ours, over=about.over,
        )  # fmt: skip


class Room(Struct, frozen=True, kw_only=True):
    """Room on a target, in bytes: what the copy `needs`, what is `free`, and whether it is certain (`refused`) that it
    does not fit. `base` is the snapshot that it links from, "" for none; the rest are the walk's totals.
    """

    needs: int
    free: int
    refused: bool
    base: str
    files: int
    bytes: int
    allocated: int


class CopyCounts(Struct, frozen=True):
    """What a copy consists of: entries in all, entries and bytes copied, entries that changed or vanished meanwhile."""

    entries: int
    copied: int
    copied_bytes: int
    changed: int
    vanished: int
    problems: int


class Opened(JobEvent, frozen=True):
    """The target is open. It `lacks` these abilities; `names` are the folders of all snapshots on it."""

    medium: KnownMedium
    lacks: tuple[str, ...]
    note: str
    snapshots: tuple[CopyBody, ...]
    names: tuple[str, ...]


class Short(JobEvent, frozen=True):
    """It seems not to fit."""

    room: Room


class Stuck(JobEvent, frozen=True):
    """It does not fit, and nothing more may make way but the last copies."""

    room: Room


class GivingUp(JobEvent, frozen=True, tag="giving_up"):
    """One of the last copies is about to go."""

    snapshot: str


class Recycling(JobEvent, frozen=True):
    """It can begin with the tree of a snapshot that goes anyway, one of these. `base` is the one that it links from."""

    base: str
    snapshots: tuple[str, ...]


class Ready(JobEvent, frozen=True):
    """The copy is made, of a source of so many files and bytes, so many of them `allocated`."""

    counts: CopyCounts
    files: int
    bytes: int
    allocated: int


class Published(JobEvent, frozen=True):
    """The snapshot has its name; these `problems` are in its sidecar."""

    copy: CopyBody
    problems: tuple[Problem, ...]


class Fetched(JobEvent, frozen=True):
    """Catalogs were copied from the medium: their stamps by file name (see `road.fetch`)."""

    stamps: dict[str, list[int]]


class Done(JobEvent, frozen=True):
    """All is done; `notes` are shown, and `room` is what is left on the target."""

    notes: tuple[str, ...] = ()
    room: LastRoom | None = None


class Forecast(JobEvent, frozen=True, kw_only=True, tag="done"):
    """What a dry run found: `medium` is "" where the target was never marked. `problems` are the first of
    `problem_count`. `recycles`: a run can begin with the tree of an old snapshot there.
    """

    counts: dict[str, int]
    medium: str
    room: Room
    snapshots: tuple[CopyBody, ...]
    recycles: bool = False
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0


class MakeRoom(Answer, frozen=True):
    """These may go, in this order, as many as are needed."""

    drop: Drops


class LastCopies(Answer, frozen=True):
    """Whether the last copies may be given up: `kept_because` says why not, "" if they may."""

    kept_because: str


class Noted(Answer, frozen=True):
    """It is written down."""


class Recycle(Answer, frozen=True):
    """This snapshot is recorded as gone, and its tree is the job's; "" for none. `catalog` says so, and is put on the
    medium first, "" for none: a reader on another node can check that nobody has damaged the snapshot.
    """

    snapshot: str
    catalog: str = ""


class Publish(Answer, frozen=True):
    """Give the copy its name, and this sequence."""

    sequence: int
    generation: Generation | None


class HoldBack(Answer, frozen=True):
    """Leave it unpublished: the source was suspiciously small."""


class Finish(Answer, frozen=True):
    """These old ones go; `catalog` is the file to put on the medium, "" for none."""

    prune: Drops
    catalog: str


CopyEvent = Opened | Progress | Short | Stuck | GivingUp | Recycling | Ready | Published | Pruned | Fetched
COPY: Conversation[CopyJob, CopyEvent, Done] = Conversation("copy", CopyJob, Done, CopyEvent)
STORE: Conversation[CopyJob, CopyEvent, Done] = Conversation("store", CopyJob, Done, CopyEvent)
FORECAST: Conversation[CopyJob, Progress, Forecast] = Conversation("foresee", CopyJob, Forecast, Progress)
