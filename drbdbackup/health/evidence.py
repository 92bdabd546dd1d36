"""Gathers what is known of each resource's backups, within a moment: catalogs of all nodes, the role, the targets.

Every look at a share or at the volume has a deadline. It changes nothing but the catalog, which learns what came by the
roads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from drbdbackup import gate, lock
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import Run
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.due import own_schedules
from drbdbackup.health.judge import PairEvidence, TargetRoom
from drbdbackup.health.room import target_rooms
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Outcome, recorded
from drbdbackup.pipeline.copies.known_copies import KnownCopy, fetch_catalogs, found, living, undamaged
from drbdbackup.pipeline.copies.pair_state import overseen
from drbdbackup.pipeline.volume import restore_record

_MADE = frozenset(Outcome) - {Outcome.STOOD_DOWN}


def gather(config: Config, resources: tuple[ResourceConfig, ...]) -> tuple[PairEvidence, ...]:
    """Try every road, then look at each resource. Raises CatalogError."""
    exchange = fetch_catalogs(config, resources)
    known = {one.name: found(config, one.name, exchange) for one in resources}
    rooms = target_rooms(config, [one.copy for copies in known.values() for one in copies])
    refused = tuple(sorted(exchange.refused.items()))
    return tuple(_of(config, one, known[one.name], rooms, refused) for one in resources)


def _of(
    config: Config, resource: ResourceConfig, known: tuple[KnownCopy, ...], rooms: Sequence[TargetRoom],
    refused: Sequence[tuple[str, str]],
) -> PairEvidence:  # fmt: skip
    now, name, state = datetime.now(UTC), resource.name, config.state_dir
    seen = gate.gather(config, resource)
    verdict = gate.judge(resource, config.node, config.nodes, seen)
    restoring, verdict = restore_record.looked(config, resource, verdict)
    newest = undamaged(living(known))
    copies = [one.copy for one in known]
    return PairEvidence(
        resource=name, now=now, verdict=verdict,
        pair=overseen(config, name, copies, now, gate.given_up(config.node, config.nodes, seen)),
        known=known, newest=newest.copy if newest else None, ended=view.last_run(state, name, _MADE, now),
        ended_common=_ended_common(config, name, now), began=view.first_run_at(state, name), rooms=rooms,
        verified_at=_last(copy.verified_at for copy in copies), drilled_at=_last(copy.drilled_at for copy in copies),
        refused=refused, restoring=restoring,
        own_schedules=own_schedules(config, recorded(copies), now), grace=config.limits.grace,
        is_restoring_here=bool(restoring and restoring.node == config.node and lock.is_held(lock_file(config))),
    )  # fmt: skip


def _ended_common(config: Config, resource: str, now: datetime) -> Run | None:
    """One for a single target alone would otherwise hide what the night's has come to."""
    if not any(target.schedule for target in config.targets):
        return None
    common = [target.name for target in config.targets if not target.schedule]
    return view.last_run(config.state_dir, resource, _MADE, now, common)


def _last(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
