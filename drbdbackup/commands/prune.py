"""`prune`: what retention drops on each target, planned from the catalog; and its removal, on targets that can be read.

A plan is made from the catalog, since a target that cannot be read shows nothing. What the other nodes know is taken in
first: which copy was verified, and what is gone, may be known to them alone. Nothing goes on the catalog's word: a copy
is removed only if the sidecars that are read on its medium then say, too, that no rule keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import lock, retention
from drbdbackup.catalog import bodies, free_space, history, store, view
from drbdbackup.catalog.history import TaskKind
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import CatalogError, DrbdBackupError, Failure, status_of
from drbdbackup.lineage import Lineages, lineages
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.backup.run_facts import recyclable, superfluous
from drbdbackup.pipeline.cage.node_facts import known_to_be_over, node_facts
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.target.prune_protocol import PRUNE, Drop, PruneEvent, PruneJob, PruneOpened
from drbdbackup.retention import Judged


class PrunedTarget(Struct, frozen=True):
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

    targets: tuple[PrunedTarget, ...]

    @property
    def status(self) -> int:
        """The exit status."""
        return status_of([one.error for one in self.targets if one.error is not None], len(self.targets))


def plan(config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]) -> Pruning:
    """What would be kept and dropped, with the reasons. Changes no target; of a disk, only this node's counts."""
    catalog_exchange.fetch_all(config)
    now = datetime.now(UTC)
    found = []
    for resource in resources:
        copies = view.copies(config.state_dir, config.node, resource.name, (), adopted=True)
        lines, safety = lineages(copies), view.safety(config.state_dir, config.node, resource.name)
        for target in targets:
            medium = view.expected_medium(config, target)
            here = [copy for copy in copies if copy.medium == medium]
            kept = [copy for copy in safety if copy.medium == medium]
            judged = retention.plan(here, target.retention, now, lines=lines)
            stay = [one.copy for one in judged if one.keep]
            recycled = _recycled_next(config, target, stay, now, lines) if target.recycle else ""
            judged += retention.safety(kept, here, now, lines)
            found.append(PrunedTarget(resource.name, target.name, judged, recycled))
    return Pruning(tuple(found))


def _recycled_next(
    config: Config, target: TargetConfig, stay: Sequence[Copy], now: datetime, lines: Lineages
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
        done = tuple(_prune_target(config, by_name[one.target], one) if one.dropped else one for one in planned)
    if any(one.removed for one in done):  # else the other nodes go on to list it
        catalog_exchange.put_all(config, None, on_volume=False)
    return Pruning(done)


def _prune_target(config: Config, target: TargetConfig, planned: PrunedTarget) -> PrunedTarget:
    """Remove from one target, and record that."""
    place = target.location(config.node)
    with history.recorded(config, TaskKind.PRUNE, planned.resource, place=place) as task:
        done = _remove(config, target, planned)
        if done.error is not None:
            task.outcome = history.outcome_of(done.error)
            task.because.append(done.error.message)
    return done


def _remove(config: Config, target: TargetConfig, planned: PrunedTarget) -> PrunedTarget:
    """Removed is each snapshot that the cage has reported, also where it ended before the last one."""
    removed: list[str] = []
    by_name = {one.copy.snapshot: one for one in planned.dropped}

    def on_event(event: PruneEvent) -> Drop | None:
        if isinstance(event, PruneOpened):
            there = bodies.copies_from(event.snapshots)
            medium = next((copy.medium for copy in there), "")
            sidecars = {copy.snapshot: copy for copy in there}
            gone = dict(superfluous(config, planned.resource, target.retention, medium, sidecars))
            return Drop(tuple((name, one.reason) for name, one in by_name.items() if name in gone))
        one = by_name[event.snapshot]
        fact = bodies.pruned(config.node, datetime.now(UTC), one.copy, one.reason)
        store.record(config.state_dir, config.node, [fact])
        removed.append(one.copy.snapshot)
        return None

    try:
        job = PruneJob(
            here=node_facts(config), target=target,
            expected=view.expected(config, target), resource=planned.resource, over=known_to_be_over(config),
        )  # fmt: skip
        patience = Patience.stalled_after(config.limits.stall)
        done = run_job(PRUNE, target.name, job, patience, on_event)
        medium = planned.judged[0].copy.medium
        if done.room is not None and target.is_mounted_for_use:
            with suppress(CatalogError):  # what went has been recorded
                store.record(config.state_dir, config.node, [free_space.left(config.node, medium, done.room)])
    except Failure as error:
        return replace(planned, removed=tuple(removed), error=error)
    return replace(planned, removed=tuple(removed))
