"""`prune`: what retention drops on each target, judged from the catalog; and its removal, on targets that can be read.

Nothing is judged from what a target shows: one that cannot be read would show nothing. What the other nodes know is
taken in first: which copy was verified, and what is gone, may be known to them alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from drbdbackup import lock, retention
from drbdbackup.catalog import bodies, store, view
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError, PartialResult, Stopped
from drbdbackup.lineage import lineages
from drbdbackup.pipeline import leftovers, roads
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.roads import subject, surroundings
from drbdbackup.retention import Judged


@dataclass(frozen=True, slots=True)
class Weeded:
    """One resource on one target: every copy with its judgement, which snapshots were removed, and what went wrong."""

    resource: str
    target: str
    judged: tuple[Judged, ...]
    removed: tuple[str, ...] = ()
    error: DrbdBackupError | None = None

    @property
    def dropped(self) -> tuple[Judged, ...]:
        """Those that go."""
        return tuple(one for one in self.judged if not one.keep)


def plan(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> tuple[Weeded, ...]:
    """What would be kept and dropped, with the reasons. Changes no target; of a disk, only this node's counts."""
    roads.fetch_all(config)
    now = datetime.now(UTC)
    found = []
    for resource in resources:
        copies = view.copies(config.state_dir, resource.name, ())
        lines, safety = lineages(copies), view.safety(config.state_dir, resource.name)
        for target in targets:
            expected = view.expected_target(config.state_dir, subject(target, config.node)) or {}
            here = [copy for copy in copies if copy.medium == expected.get("medium")]
            kept = [copy for copy in safety if copy.medium == expected.get("medium")]
            judged = retention.plan(here, target.retention, now, lines=lines)
            judged += retention.safety(kept, here, now, lines)
            found.append(Weeded(resource.name, target.name, judged))
    return tuple(found)


def prune(
    config: Config, resources: Sequence[ResourceConfig], targets: Sequence[TargetConfig]
) -> tuple[Weeded, ...]:
    """Remove what `plan` drops; a target that fails does not stop the next one. Raises Locked."""
    by_name = {target.name: target for target in targets}
    with lock.held(lock_file(config)):
        planned = plan(config, resources, targets)
        return tuple(_weeded(config, by_name[one.target], one) if one.dropped else one for one in planned)


def exit_status(weeded: Sequence[Weeded]) -> int:
    """0, or what the only one says that failed, or partial."""
    errors = [one.error for one in weeded if one.error is not None]
    if not errors:
        return 0
    return errors[0].status if len(errors) == len(weeded) else PartialResult.status


def _weeded(config: Config, target: TargetConfig, planned: Weeded) -> Weeded:
    """Removed is what the cage said of each snapshot, also where it ended before the last one."""
    removed: list[str] = []
    by_name = {one.copy.snapshot: one for one in planned.dropped}

    def hear(event: Event) -> None:
        if event.name == "pruned":
            one = by_name[event.fields["snapshot"]]
            fact = bodies.pruned(config.node, datetime.now(UTC), one.copy, one.reason)
            store.record(config.state_dir, config.node, [fact])
            removed.append(one.copy.snapshot)

    try:
        job = {
            **surroundings(config), "job": "prune", "target": asdict(target),
            "expected": view.expected_target(config.state_dir, subject(target, config.node)),
            "resource": planned.resource, "drop": [[name, one.reason] for name, one in by_name.items()],
            "over": leftovers.known_to_be_over(config),
        }  # fmt: skip
        attend(target.name, job, Patience(config.limits.stall, config.limits.stall), hear)
    except Stopped:
        raise
    except DrbdBackupError as error:
        return replace(planned, removed=tuple(removed), error=error)
    return replace(planned, removed=tuple(removed))
