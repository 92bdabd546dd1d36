"""When a backup is due, as a crontab line means it: local time, right across both DST changes.

Pure but for the zone of the machine; it never decides whether a run counts as done, whoever asks says so. croniter
does the calendar and is imported only where it is used, because `latest` must not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from drbdbackup.errors import ConfigError
from drbdbackup.moment import local_zone

_MINUTE = timedelta(minutes=1)


def check(expression: str) -> None:
    """Raise ConfigError where `expression` is no crontab time or one that never comes (30 February)."""
    if len(expression.split()) != 5:
        raise _wrong(expression, "five fields are allowed: minute hour day month weekday")
    next_due(expression, datetime.now(UTC))


def next_due(expression: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The first due time after `now` (aware), in UTC. Raises ConfigError as `check` does."""
    for due in _dues(expression, now, zone, forward=True):
        return due
    raise _wrong(expression, "it never occurs")


def last_due(expression: str, now: datetime, zone: tzinfo | None = None) -> datetime | None:
    """The last due time up to and with the minute of `now` (aware), in UTC; None if there never was one."""
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    return next(_dues(expression, minute + _MINUTE, zone, forward=False), None)


def unmet(due: datetime | None, done_at: datetime | None) -> datetime | None:
    """The last due time, if no run has met it yet.

    `done_at` is the start of the newest run that counts, of any node, and not from the future (a clock that was once
    ahead would otherwise silence the schedule until then).
    """
    return None if due is None or (done_at is not None and done_at >= due) else due


def _dues(expression: str, start: datetime, zone: tzinfo | None, *, forward: bool) -> Iterator[datetime]:
    """Due times after (or before) `start`, in UTC.

    As in cron: an hour that the schedule names comes once in the night that has it twice, the first time; where every
    hour is meant, both count. A time that a night leaves out comes when the clock has jumped.
    """
    from croniter import CroniterBadDateError, CroniterError, croniter

    zone = zone or local_zone()
    every_hour = expression.split()[1:2] == ["*"]
    try:
        times = croniter(expression, start.astimezone(zone), ret_type=datetime)
        while True:
            due = (times.get_next() if forward else times.get_prev()).astimezone(UTC)
            if every_hour or not due.astimezone(zone).fold:
                yield due
    except CroniterBadDateError:
        return
    except CroniterError as error:
        raise _wrong(expression, str(error)) from None


def _wrong(expression: str, why: str) -> ConfigError:
    return ConfigError(f'schedule = "{expression}": {why}', 'Write it as in a crontab, like "30 4 * * *".')
