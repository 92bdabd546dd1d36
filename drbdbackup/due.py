"""Whether a backup is due: what the schedule says against what any node has done. `status` and `run --if-due` ask."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from drbdbackup import durable, schedule
from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.model.backup import Outcome, from_iso, iso

COUNTING = frozenset({Outcome.COMPLETE, Outcome.PARTIAL, Outcome.HELD})

_REMEMBERED = "due.json"  # in state_dir
_LONGEST = 4096
_SKEW = timedelta(minutes=5)  # by which another node's clock may be ahead of ours


def due_since(
    config: Config, resource: str, now: datetime, targets: Sequence[TargetConfig] | None = None
) -> datetime | None:
    """The due time that no node has met yet (UTC), or None. Raises ConfigError for an invalid schedule.

    A run meets it that tried all of `targets` (default: all that are configured). Whether each could be used plays no
    part: one that is broken must not cause a run every quarter of an hour.
    """
    names = [target.name for target in (config.targets if targets is None else targets)]
    done = view.last_run(config.state_dir, resource, COUNTING, now + _SKEW, names)
    return schedule.is_due(config.schedule, now, done.started_at if done else None)


def untried(config: Config, resource: str, now: datetime, since: datetime | None) -> tuple[str, ...]:
    """The targets without which the backup that is due since then is there: no run has tried them. () if it is not."""
    done = view.last_run(config.state_dir, resource, COUNTING, now + _SKEW)
    if since is None or done is None or done.started_at < since:
        return ()
    tried = dict(done.targets)
    return tuple(target.name for target in config.targets if target.name not in tried)


def last_due(config: Config, now: datetime) -> datetime | None:
    """The newest due time up to `now` (UTC); None if there never was one. Raises ConfigError.

    It is remembered until the next one: croniter takes as long to load as all else that monitoring asks for.
    """
    file = os.path.join(config.state_dir, _REMEMBERED)
    made_of = [config.schedule, os.environ.get("TZ", ""), os.path.realpath("/etc/localtime"), *time.tzname]
    with suppress(OSError, ValueError, KeyError, TypeError), open(file, "rb") as remembered:
        known = json.loads(remembered.read(_LONGEST))
        if known["made_of"] == made_of and from_iso(known["due"]) <= now < from_iso(known["next"]):
            return from_iso(known["due"])
    due = schedule.last_due(config.schedule, now)
    if due is not None:
        following = schedule.next_due(config.schedule, now)
        with suppress(OSError):
            known = {"made_of": made_of, "due": iso(due), "next": iso(following)}
            durable.write(file, json.dumps(known).encode())
    return due


def next_due(config: Config, now: datetime) -> datetime:
    """When the next backup is due (UTC)."""
    return schedule.next_due(config.schedule, now)
