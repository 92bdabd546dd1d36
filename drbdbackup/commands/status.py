"""`status`: what this node is for each resource, what a run would do now and why, and whether a backup is overdue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from drbdbackup import gate, lock, oversight, schedule
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import Run
from drbdbackup.commands.due import due_since, next_due
from drbdbackup.commands.latest import Found, found, last_heard, living, take_in, undamaged
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.lineage import Lineages, lineages
from drbdbackup.model.restoring import Restoring
from drbdbackup.model.role import Verdict
from drbdbackup.oversight import NodeSeen, PairVerdict, Watched
from drbdbackup.pipeline import unfinished
from drbdbackup.pipeline.roads import Travelled


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource, seen from this node. `source` names who told the role; `last_run` is this node's own newest.

    `pair` is about all nodes together; `heads` are the newest copies of the rivals of a split brain. `restoring` is a
    restore in place that has not ended, `at_work` that it goes on here and now.
    `pair` is about all nodes together; `heads` are the newest copies of the rivals of a split brain. `verified_at` and
    `drilled_at` are when any copy was proven last.
    """

    resource: str
    source: str
    verdict: Verdict
    last_complete: Found | None
    next_due: datetime
    due_since: datetime | None
    last_run: Run | None
    pair: PairVerdict
    heads: tuple[tuple[str, Found], ...] = ()
    restoring: Restoring | None = None
    at_work: bool = False
    verified_at: datetime | None = None
    drilled_at: datetime | None = None


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
    lines = lineages(one.copy for one in copies)
    backup = undamaged(living(copies))
    verdict = gate.judge(resource, config.node, config.nodes, evidence)
    restoring = unfinished.known(config, resource, verdict)
    return ResourceStatus(
        resource.name,
        ", ".join(dict.fromkeys(seen.source for seen in evidence.observations)),
        unfinished.judged(config, resource, verdict),
        backup,
        next_due(config, now),
        due_since(config, resource.name, now),
        view.last_run_of(config.state_dir, resource.name, config.node),
        _overseen(config, resource.name, backup, lines, now),
        tuple((line.word, one) for line in lines.rivals if (one := undamaged(_in(copies, line.generation)))),
        restoring,
        restoring is not None and restoring.node == config.node and lock.is_held(lock_file(config)),
        _last(one.copy.verified_at for one in copies),
        _last(one.copy.drilled_at for one in copies),
    )


def _last(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _overseen(config: Config, resource: str, backup: Found | None, lines: Lineages, now: datetime) -> PairVerdict:
    """What all nodes together have done."""
    heard = {one.node: one.seen_at for one in last_heard(config)}
    nodes = [
        NodeSeen(node, heard.get(node), view.last_run_of(config.state_dir, resource, node), node == config.node)
        for node in config.nodes
    ]
    return oversight.judge(Watched(
        now, schedule.last_due(config.schedule, now - timedelta(seconds=config.limits.grace)),
        timedelta(seconds=config.limits.silence), nodes, backup.copy if backup else None,
        view.first_run_at(config.state_dir, resource), tuple(line.name for line in lines.rivals),
    ))  # fmt: skip


def _in(copies: tuple[Found, ...], generation: str) -> tuple[Found, ...]:
    return tuple(one for one in copies if one.line is not None and one.line.generation == generation)
