"""The conversation with the job that removes the snapshots which retention drops.

| the job says   | `prune` answers |                                      |
|----------------|-----------------|--------------------------------------|
| `PruneOpened`  | `Drop`          | what lies on the medium; what goes   |
| `Pruned`       |                 | one of them is gone                  |
| `PruneEnd`     |                 | all are                              |
"""

from __future__ import annotations

from typing import Any

from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.pipeline.cage.protocol import Answer, Conversation, JobEvent
from drbdbackup.pipeline.target.target_protocol import Pruned, TargetJob


class PruneJob(TargetJob, frozen=True, kw_only=True):
    """Remove snapshots of `resource`."""


class PruneOpened(JobEvent, frozen=True, tag="opened"):
    """The target is open, and these copies lie on it, as bodies of facts."""

    snapshots: tuple[dict[str, Any], ...]


class Drop(Answer, frozen=True):
    """These snapshots go, with the reason of each."""

    drop: tuple[tuple[str, str], ...]


class PruneEnd(JobEvent, frozen=True, tag="done"):
    """All are gone; `room` is what is left on the target."""

    room: LastRoom | None


PruneEvent = PruneOpened | Pruned
PRUNE: Conversation[PruneJob, PruneEvent, PruneEnd] = Conversation("prune", PruneJob, PruneEnd, PruneEvent)
