"""Whether a backup is due: what the schedules say against what any node has done. `status` and `run --if-due` ask.

A target may have a schedule of its own. Then it takes part in a run only if no node has made its copy since its last
due time. The others follow the schedule at the top, and a run tries all of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct

from drbdbackup import durable, schedule
from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import ConfigError
from drbdbackup.model.backup import Copy, Outcome, from_iso, iso

COUNTING = frozenset({Outcome.COMPLETE, Outcome.PARTIAL, Outcome.HELD})

_TRIED = COUNTING | {Outcome.FAILED}
_REMEMBERED = "due.json"  # in state_dir
_LONGEST = 1 << 16  # bytes
_SPANS = 4  # remembered of each schedule: who asks for now asks for the end of the grace, too
_SKEW = timedelta(minutes=5)  # by which another node's clock may be ahead of ours


class Due(Struct, frozen=True):
    """The `targets` that a run is due for, and `since` when (UTC); () and None for none."""

    since: datetime | None = None
    targets: tuple[TargetConfig, ...] = ()


class TargetDue(Struct, frozen=True):
    """A target with a schedule of its own: when its next copy is due, and since when one is that nobody has made.

    `newest` is the start of its newest copy. All in UTC, None for none.
    """

    target: str
    next_due: datetime
    since: datetime | None = None
    newest: datetime | None = None

    def is_late(self, now: datetime, grace: float) -> bool:
        """Whether it should have been there `grace` seconds ago. One that never had a copy is new, not late."""
        return self.since is not None and self.newest is not None and self.since + timedelta(seconds=grace) < now


def taking_part(
    targets: Sequence[TargetConfig], newest: Mapping[str, datetime], last_due: Callable[[str], datetime | None]
) -> tuple[TargetConfig, ...]:
    """The targets that a run serves which begins now. `newest` is the start of each target's newest copy, of any node,
    `last_due` knows the last due time of a schedule.

    A target whose schedule is invalid takes part: `config validate` says what is wrong with it.
    """

    def has_turn(target: TargetConfig) -> bool:
        with suppress(ConfigError):
            last = last_due(target.schedule) if target.schedule else None
            return last is None or target.name not in newest or newest[target.name] < last
        return True

    return tuple(filter(has_turn, targets))


def newest_copies(copies: Sequence[Copy], now: datetime) -> dict[str, datetime]:
    """When each target's newest copy was begun, by whichever node, but for damaged ones and those from the future."""
    found: dict[str, datetime] = {}
    for copy in copies:
        if copy.damaged_at is None and copy.started_at <= now + _SKEW:
            found[copy.target] = max(copy.started_at, found.get(copy.target, copy.started_at))
    return found


def served(config: Config, resource: str, now: datetime, targets: Sequence[TargetConfig]) -> tuple[TargetConfig, ...]:
    """Those of `targets` that a run serves which begins now."""
    if not any(target.schedule for target in targets):
        return tuple(targets)
    newest = newest_copies(view.configured(config, resource), now)
    return taking_part(targets, newest, lambda expression: _around(config, expression, now)[0])


def due(config: Config, resource: str, now: datetime, targets: Sequence[TargetConfig] | None = None) -> Due:
    """What is due of `targets` (default: all that are configured) and no node has done. Raises ConfigError.

    A run meets the schedule at the top that tried all targets without one of their own. Whether each could be used
    plays no part: one that is broken must not cause a run every quarter of an hour. For the same reason a target with
    a schedule of its own causes one run, and takes part in the others until it has its copy.
    """
    wanted = config.targets if targets is None else targets
    common = tuple(target for target in wanted if not target.schedule)
    since = _since(config, config.schedule, resource, now, [target.name for target in common]) if common else None
    own = {
        one.name: at for one in wanted if one.schedule and (at := _own_since(config, one, resource, now)) is not None
    }  # fmt: skip
    if since is None and not own:
        return Due()
    now_served = served(config, resource, now, [one for one in wanted if one.schedule])
    pending = {one.name: own[one.name] for one in now_served if one.name in own}
    if since is not None:
        return Due(since, tuple(one for one in wanted if one in common or one in now_served))
    if not pending:
        return Due()
    return Due(min(pending.values()), tuple(one for one in now_served if one.name in pending))


def _own_since(config: Config, target: TargetConfig, resource: str, now: datetime) -> datetime | None:
    """The same for a target with a schedule of its own. An invalid one causes no run, and prevents none."""
    with suppress(ConfigError):
        return _since(config, target.schedule, resource, now, [target.name], _TRIED)
    return None


def _since(
    config: Config, expression: str, resource: str, now: datetime, names: Sequence[str],
    outcomes: frozenset[Outcome] = COUNTING,
) -> datetime | None:  # fmt: skip
    """The last due time, if no run has begun since that tried all the targets of these names."""
    done = view.last_run(config.state_dir, resource, outcomes, now + _SKEW, names)
    return schedule.unmet(_around(config, expression, now)[0], done.started_at if done else None)


def due_since(
    config: Config, resource: str, now: datetime, targets: Sequence[TargetConfig] | None = None
) -> datetime | None:
    """The due time that no node has met yet (UTC), or None; see `due`."""
    return due(config, resource, now, targets).since


def untried(config: Config, resource: str, now: datetime, found: Due) -> tuple[str, ...]:
    """The targets without which the backup that is due as `found` is there: no run has tried them. () if it is not."""
    done = view.last_run(config.state_dir, resource, COUNTING, now + _SKEW) if found.since is not None else None
    if found.since is None or done is None:
        return ()
    if all(target.schedule for target in found.targets):
        return tuple(target.name for target in found.targets)
    if done.started_at < found.since:
        return ()
    tried = dict(done.targets)
    return tuple(target.name for target in config.targets if target.name not in tried and not target.schedule)


def own_schedules(config: Config, copies: Sequence[Copy], now: datetime) -> tuple[TargetDue, ...]:
    """How it is with each target that has a valid one; `copies` are those of a resource."""
    newest = newest_copies(copies, now)
    found = []
    for target in config.targets:
        with suppress(ConfigError):
            if target.schedule:
                last, following = _around(config, target.schedule, now)
                at = newest.get(target.name)
                is_met = last is None or (at is not None and at >= last)
                found.append(TargetDue(target.name, following, None if is_met else last, at))
    return tuple(found)


def last_due(config: Config, now: datetime, target: TargetConfig | None = None) -> datetime | None:
    """The newest due time up to `now` (UTC), by the schedule of the target; None if there never was one.

    Raises ConfigError.
    """
    return _around(config, (target.schedule if target else "") or config.schedule, now)[0]


def _around(config: Config, expression: str, now: datetime) -> tuple[datetime | None, datetime]:
    """The due times before and after `now`.

    They are remembered until the next one: croniter takes as long to load as all else that a command does.
    """
    file = os.path.join(config.state_dir, _REMEMBERED)
    made_of = [os.environ.get("TZ", ""), os.path.realpath("/etc/localtime"), _zone_changed(), *time.tzname]
    every: dict[str, list[list[str]]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), open(file, "rb") as remembered:
        document = json.loads(remembered.read(_LONGEST))
        if document["made_of"] == made_of:
            every = {str(one): [[str(at) for at in span] for span in spans] for one, spans in document["due"].items()}
            for last, following in every[expression]:
                if from_iso(last) <= now < from_iso(following):
                    return from_iso(last), from_iso(following)
    before, after = schedule.last_due(expression, now), schedule.next_due(expression, now)
    if before is not None:
        used = {config.schedule, *(target.schedule for target in config.targets)}
        kept = {one: spans for one, spans in every.items() if one in used}
        kept[expression] = [[iso(before), iso(after)], *every.get(expression, [])][:_SPANS]
        with suppress(OSError):
            durable.write(file, json.dumps({"made_of": made_of, "due": kept}).encode())
    return before, after


def _zone_changed() -> int:
    """When the rules of this machine's zone were changed: an update may move a due time."""
    with suppress(OSError):
        return os.stat("/etc/localtime").st_mtime_ns
    return 0


def next_due(config: Config, now: datetime, target: TargetConfig | None = None) -> datetime:
    """When the next backup is due (UTC), by the schedule of the target."""
    return _around(config, (target.schedule if target else "") or config.schedule, now)[1]
