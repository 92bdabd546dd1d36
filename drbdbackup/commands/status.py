"""`status`: what this node is for each resource, what a run would do now and why, and whether a backup is overdue.

It changes nothing. A role that cannot be read is an answer here, not an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.catalog import view
from drbdbackup.catalog.bodies import Run
from drbdbackup.catalog.unconfigured_resources import OtherResource, other_resources
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.due import TargetDue, due, next_due, own_schedules, untried
from drbdbackup.lineage import lineages
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import recorded
from drbdbackup.model.restoring import RESUME, Restoring
from drbdbackup.model.role import Verdict
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from drbdbackup.pipeline.copies.known_copies import (
    KnownCopy,
    fetch_catalogs,
    found,
    living,
    newer_retired,
    undamaged,
)
from drbdbackup.pipeline.copies.pair_state import overseen
from drbdbackup.pipeline.volume import restore_record

_IN_PROGRESS = "a restore in place is in progress here"


class ResourceStatus(Struct, frozen=True, kw_only=True):
    """One resource, seen from this node. `source` names who reported the role; `last_run` is this node's own newest.

    `restoring` is a restore in place that has not ended, `at_work` that it goes on here and now.
    `pair` is about all nodes together; `heads` are the newest copies of the rivals of a split brain. `verified_at` and
    `drilled_at` are when any copy was proven last. `newer_retired` is a newer copy than the last complete one, on a
    target that no node has in its configuration any more. `is_overdue`: `limits.grace` is over, too. `untried` are the
    targets that alone keep a backup due: no run has tried them since. `own_schedules`: of the targets that have one.
    """

    resource: str
    source: str
    verdict: Verdict
    last_complete: KnownCopy | None
    next_due: datetime
    due_since: datetime | None
    last_run: Run | None
    pair: PairVerdict
    heads: tuple[tuple[str, KnownCopy], ...] = ()
    restoring: Restoring | None = None
    at_work: bool = False
    verified_at: datetime | None = None
    drilled_at: datetime | None = None
    newer_retired: KnownCopy | None = None
    is_overdue: bool = False
    untried: tuple[str, ...] = ()
    own_schedules: tuple[TargetDue, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether nobody was to have made a backup yet."""
        return self.last_complete is None and self.pair.state is not PairState.CRITICAL


class Status(Struct, frozen=True):
    """All of them. `closed` says why nothing, or not everything, was learned by a road; `others` are not configured."""

    node: str
    resources: tuple[ResourceStatus, ...]
    closed: dict[str, str]
    others: tuple[OtherResource, ...] = ()

    @property
    def is_critical(self) -> bool:
        """Whether a backup that should be there is not, or will not be: somebody has to act."""
        return any(
            one.pair.state is PairState.CRITICAL or (one.restoring is not None and one.restoring.is_half)
            for one in self.resources
        )


def status(config: Config, resources: tuple[ResourceConfig, ...]) -> Status:
    """Ask the gate and the catalog. A verdict that refuses is an answer here, not an error."""
    exchange = fetch_catalogs(config, resources)
    known = tuple(_of(config, resource, exchange) for resource in resources)
    return Status(config.node, known, exchange.unread, other_resources(config))


def _of(config: Config, resource: ResourceConfig, exchange: ExchangeResult) -> ResourceStatus:
    now = datetime.now(UTC)
    evidence = gate.gather(config, resource)
    pending, grace = due(config, resource.name, now), timedelta(seconds=config.limits.grace)
    copies = found(config, resource.name, exchange)
    lines = lineages(one.copy for one in copies)
    backup = undamaged(living(copies))
    apart = gate.given_up(config.node, config.nodes, evidence)
    verdict = gate.judge(resource, config.node, config.nodes, evidence)
    restoring, judged = restore_record.looked(config, resource, verdict)
    at_work = restoring is not None and restoring.node == config.node and lock.is_held(lock_file(config))
    if restoring is not None and at_work:
        judged = in_progress(judged, restoring)
    return ResourceStatus(
        resource=resource.name,
        source=", ".join(dict.fromkeys(seen.source for seen in evidence.observations)),
        verdict=judged,
        last_complete=backup,
        next_due=next_due(config, now),
        due_since=pending.since,
        is_overdue=pending.since is not None and pending.since + grace < now,
        untried=untried(config, resource.name, now, pending),
        own_schedules=own_schedules(config, recorded([one.copy for one in copies]), now),
        last_run=view.last_run_of(config.state_dir, resource.name, config.node),
        pair=overseen(config, resource.name, [one.copy for one in copies], now, apart),
        heads=tuple((line.word, one) for line in lines.rivals if (one := undamaged(_in(copies, line.generation)))),
        restoring=restoring,
        at_work=at_work,
        verified_at=_last(one.copy.verified_at for one in copies),
        drilled_at=_last(one.copy.drilled_at for one in copies),
        newer_retired=newer_retired(living(copies), backup),
    )


def in_progress(judged: Verdict, restoring: Restoring) -> Verdict:
    """The verdict while the restore goes on here: nothing is to be decided or accepted before its end."""
    because = tuple(_IN_PROGRESS if why == restoring.description else why for why in judged.because)
    return replace(judged, because=because, hint="Wait for its end." if judged.hint == RESUME else judged.hint)


def _last(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def _in(copies: tuple[KnownCopy, ...], generation: str) -> tuple[KnownCopy, ...]:
    return tuple(one for one in copies if one.line is not None and one.line.generation == generation)
