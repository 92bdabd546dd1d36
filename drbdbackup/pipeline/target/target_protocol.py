"""The fields that every job has that opens a target, and what it reports about that target."""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.config.values import TargetConfig
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.protocol import CageJob, EndedRuns, JobEvent


class Removal(Struct, frozen=True):
    """Whose unfinished snapshots may go: those of this `node`, and what is left of the runs in `over`.

    `is_own`: all, because it is a disk of this node. What is called by another there was left by a replication.
    """

    node: str
    resource: str
    over: EndedRuns
    is_own: bool = False


class TargetJob(CageJob, frozen=True, kw_only=True):
    """A job that opens a target.

    `expected` is the medium that it was the last time, None if it was never seen; `ours` are the media that any of the
    cluster's `nodes` has said are this target. `over`: of which runs what they left may go, to make room for a probe.
    """

    target: TargetConfig
    expected: KnownMedium | None = None
    resource: str = ""
    nodes: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    over: EndedRuns = EndedRuns()

    @property
    def removal(self) -> Removal:
        """Which unfinished snapshots may go."""
        return Removal(self.here.node, self.resource, self.over, self.target.is_local)


class Pruned(JobEvent, frozen=True):
    """A snapshot is gone, for that reason."""

    snapshot: str
    reason: str
