"""`status`: what this node is for each resource, what a run would do now and why, and whether a backup is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from drbdbackup import gate
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import Run
from drbdbackup.commands.due import due_since, next_due
from drbdbackup.commands.latest import Found, found, take_in, undamaged
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.model.role import Verdict
from drbdbackup.pipeline.roads import Travelled


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource, seen from this node. `source` names who told the role; `last_run` is this node's own newest."""

    resource: str
    source: str
    verdict: Verdict
    last_complete: Found | None
    next_due: datetime
    due_since: datetime | None
    last_run: Run | None


@dataclass(frozen=True, slots=True)
class Status:
    """All of them. `closed` says why a road led nowhere."""

    node: str
    resources: tuple[ResourceStatus, ...]
    closed: dict[str, str]


def status(config: Config, resources: tuple[ResourceConfig, ...]) -> Status:
    """Ask the gate and the catalog. A verdict that refuses is an answer here, not an error."""
    travelled = take_in(config, resources)
    return Status(config.node, tuple(_of(config, resource, travelled) for resource in resources), travelled.closed)


def _of(config: Config, resource: ResourceConfig, travelled: Travelled) -> ResourceStatus:
    now = datetime.now(UTC)
    evidence = gate.gather(config, resource)
    copies = found(config, resource.name, travelled)
    runs = view.runs(config.state_dir, resource.name, 100)
    return ResourceStatus(
        resource.name,
        ", ".join(dict.fromkeys(seen.source for seen in evidence.observations)),
        gate.judge(resource, config.node, config.nodes, evidence),
        undamaged(copies),
        next_due(config, now),
        due_since(config, resource.name, now),
        next((run for run in runs if run.node == config.node), None),
    )
