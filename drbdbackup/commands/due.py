"""Whether a backup is due: what the schedule says against what any node has done. `status` and `run --if-due` ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from drbdbackup import schedule
from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.model.backup import Outcome

COUNTING = frozenset({Outcome.COMPLETE, Outcome.PARTIAL, Outcome.HELD})

_SKEW = timedelta(minutes=5)  # by which another node's clock may be ahead of ours


def due_since(
    config: Config, resource: str, now: datetime, targets: Sequence[TargetConfig] | None = None
) -> datetime | None:
    """The due time that no node has met yet (UTC), or None. Raises ConfigError for a schedule that makes no sense.

    A run meets it that tried all of `targets` (default: all that are configured). Whether each could be used plays no
    part: one that is broken must not cause a run every quarter of an hour.
    """
    names = [target.name for target in (config.targets if targets is None else targets)]
    done = view.last_run(config.state_dir, resource, COUNTING, now + _SKEW, names)
    return schedule.is_due(config.schedule, now, done.started_at if done else None)


def next_due(config: Config, now: datetime) -> datetime:
    """When the next backup is due (UTC)."""
    return schedule.next_due(config.schedule, now)
