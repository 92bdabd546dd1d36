"""The conversation between `replicate` and the job that fetches a snapshot to this node's own disk.

| the job tells      | `replicate` answers |                                                            |
|--------------------|---------------------|------------------------------------------------------------|
| `Opened`           |                     | the disk is the one that it was, and this lies on it       |
| `Progress`         |                     | how far it is                                              |
| `Short`            | `MakeRoom`          | which copies may make way, oldest first                    |
| `ReplicaReady`     | `Noted`             | it is about to get its name; that is written down          |
| `ReplicaPublished` | `Finish`            | the snapshot has its name; which old ones go               |
| `Pruned`           |                     | an old one is gone                                         |
| `Done`             |                     | the end                                                    |
"""

from __future__ import annotations

from datetime import datetime

from drbdbackup.catalog.signatures import OwnKey
from drbdbackup.config.values import TargetConfig
from drbdbackup.pipeline.cage.protocol import Conversation, JobEvent
from drbdbackup.pipeline.copies.read_protocol import ReadJob
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.snapshot.copy_protocol import CopyBody, Done, Opened, Short, TargetFacts
from drbdbackup.pipeline.target.target_protocol import Pruned, TargetJob


class ReplicateJob(ReadJob, frozen=True, kw_only=True):
    """Fetch the copy to `target`, a disk of this node, where `about` is what the catalog says of that.

    `key` signs what is noted for the next run, should this one be interrupted. `sequence`, `started_at` and `made_by`
    are what the catalog says of the snapshot. `again`: the one that the disk has is damaged, and the new one takes its
    place once it is whole. `rate` is how many bytes it may bring in a second, 0 for any.
    """

    target: TargetConfig
    about: TargetFacts
    key: OwnKey
    sequence: int
    started_at: datetime
    made_by: str
    again: bool = False
    rate: int = 0

    @property
    def is_idle_work(self) -> bool:
        """Yes: a failover, a run and the services come first."""
        return True

    @property
    def to_open(self) -> TargetJob:
        """What is needed to open the disk."""
        about = self.about
        return TargetJob(
            here=self.here, target=self.target, expected=about.expected, resource=self.copy.resource,
            nodes=about.nodes, ours=about.ours, over=about.over,
        )  # fmt: skip


class ReplicaReady(JobEvent, frozen=True, kw_only=True):
    """What `ReplicaPublished` will say, just before the snapshot gets its name."""

    copy: CopyBody
    files: int
    bytes: int
    is_all: bool


class ReplicaPublished(JobEvent, frozen=True, kw_only=True):
    """The snapshot has its name on the disk. `files` of `bytes` were fetched, and were what the manifest says.

    `is_all` says that nothing was linked: every file was read.
    """

    copy: CopyBody
    files: int
    bytes: int
    is_all: bool


ReplicateEvent = Opened | Progress | Short | ReplicaReady | ReplicaPublished | Pruned
REPLICATE: Conversation[ReplicateJob, ReplicateEvent, Done] = Conversation(
    "replicate", ReplicateJob, Done, ReplicateEvent
)
