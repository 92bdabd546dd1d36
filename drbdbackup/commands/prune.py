"""`prune`: what retention drops on each target, planned from the catalog; and its removal, on targets that can be read.

A plan is made from the catalog, since a target that cannot be read shows nothing. What the other nodes know is taken in
first: which copy was verified, and what is gone, may be known to them alone. Nothing goes on the catalog's word: a copy
is removed only if the sidecars that are read on its medium then say, too, that no rule keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import lock, retention
from drbdbackup.catalog import bodies, history, store, view
from drbdbackup.catalog.history import TaskKind
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError, Failure, PartialResult
from drbdbackup.lineage import Lineages, lineages
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.backup.run_facts import recyclable, superfluous
from drbdbackup.pipeline.cage.node_facts import known_to_be_over, node_facts
from drbdbackup.pipeline.cage.supervisor import Cage, Patience, attend
from drbdbackup.pipeline.target.prune_protocol import PRUNE, Drop, PruneEvent, PruneJob, PruneOpened
from drbdbackup.retention import Judged


class Weeded(Struct, frozen=True):
    """One resource on one target: every copy with its judgement, which snapshots were removed, and what went wrong.

    `recycled_next`: with the tree of this snapshot a run would begin that came now, if the target has hard links.
    """

    resource: str
    target: str
    judged: tuple[Judged, ...]
    recycled_next: str = ""
    removed: tuple[str, ...] = ()
    error: DrbdBackupError | None = None

    @property
    def dropped(self) -> tuple[Judged, ...]:
        """Those that go."""
        return tuple(one for one in self.judged if not one.keep)


class Pruning(Struct, frozen=True):
    """Every resource on every target."""

    targets: tuple[Weeded, ...]

    @property
    def status(self) -> int:
        """0, or what the only one says that failed, or partial."""
        errors = [one.error for one in self.targets if one.error is not None]
        if not errors:
            return 0
        return errors[0].status if len(errors) == len(self.targets) else PartialResult.status


def plan(config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]) -> Pruning:
    """What would be kept and dropped, with the reasons. Changes no target; of a disk, only this node's counts."""
    roads.fetch_all(config)
    now = datetime.now(UTC)
    found = []
    for resource in resources:
        copies = view.copies(config.state_dir, config.node, resource.name, (), adopted=True)
        lines, safety = lineages(copies), view.safety(config.state_dir, config.node, resource.name)
        for target in targets:
            expected = view.expected(config, target) or {}
            here = [copy for copy in copies if copy.medium == expected.get("medium")]
            kept = [copy for copy in safety if copy.medium == expected.get("medium")]
            judged = retention.plan(here, target.retention, now, lines=lines)
            stay = [one.copy for one in judged if one.keep]
            recycled = _recycled_next(config, resource, target, stay, now, lines) if target.recycle else ""
            judged += retention.safety(kept, here, now, lines)
            found.append(Weeded(resource.name, target.name, judged, recycled))
    return Pruning(tuple(found))


def _recycled_next(
    config: Config, resource: ResourceConfig, target: TargetConfig, stay: Sequence[Copy], now: datetime, lines: Lineages
) -> str:
    """The copy of those that stay with whose tree a run would begin now, "" for none. The newest is its base."""
    if not stay:
        return ""
    newest = stay[0]
    coming = replace(newest, snapshot=snapshot_name(now, config.node), sequence=newest.sequence + 1, started_at=now)
    found = recyclable(stay, replace(coming, verified_at=None, damaged_at=None), target.retention, now, lines)
    return next((snapshot for snapshot in found if snapshot != newest.snapshot), "")


def prune(config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]) -> Pruning:
    """Remove what `plan` drops; a target that fails does not stop the next one. Raises Locked."""
    by_name = {target.name: target for target in targets}
    with lock.held(lock_file(config)):
        planned = plan(config, resources, targets).targets
        return Pruning(tuple(
            _weeded(config, by_name[one.target], one) if one.dropped else one for one in planned
        ))  # fmt: skip


def _weeded(config: Config, target: TargetConfig, planned: Weeded) -> Weeded:
    """Remove from one target, and record that."""
    place = target.location(config.node)
    with history.recorded(config, TaskKind.PRUNE, planned.resource, place=place) as task:
        done = _pruned(config, target, planned)
        if done.error is not None:
            task.outcome = history.outcome_of(done.error)
            task.because.append(done.error.message)
    return done


def _pruned(config: Config, target: TargetConfig, planned: Weeded) -> Weeded:
    """Removed is what the cage said of each snapshot, also where it ended before the last one."""
    removed: list[str] = []
    cages: list[Cage] = []
    by_name = {one.copy.snapshot: one for one in planned.dropped}

    def hear(told: PruneEvent) -> None:
        if isinstance(told, PruneOpened):
            there = [copy for body in told.snapshots if (copy := bodies.copy_from(body)) is not None]
            medium = next((copy.medium for copy in there), "")
            sidecars = {copy.snapshot: copy for copy in there}
            gone = dict(superfluous(config, planned.resource, target.retention, medium, sidecars))
            cages[0].tell(Drop(tuple((name, one.reason) for name, one in by_name.items() if name in gone)))
        else:
            one = by_name[told.snapshot]
            fact = bodies.pruned(config.node, datetime.now(UTC), one.copy, one.reason)
            store.record(config.state_dir, config.node, [fact])
            removed.append(one.copy.snapshot)

    try:
        job = PruneJob(
            here=node_facts(config), target=target,
            expected=view.expected(config, target),
            resource=planned.resource, over=known_to_be_over(config),
        )  # fmt: skip
        attend(PRUNE, target.name, job, Patience(config.limits.stall, config.limits.stall), hear, begun=cages.append)
    except Failure as error:
        return replace(planned, removed=tuple(removed), error=error)
    return replace(planned, removed=tuple(removed))
