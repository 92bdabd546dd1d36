"""What people mean by a time, in the local time of this machine: the text behind `restore --at` and `list --since`.

A day means its end, because the newest copy of that day counts; behind `--since` its beginning. The libraries for this
guess (parsedatetime passes over what it does not know, dateparser costs 90 ms), and a guess is no base for a restore:
what is not in the list is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from drbdbackup.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVERYWHERE = range(2, 9999)  # the years that all zones have
_ALLOWED = (
    'Allowed: "now", "today", "yesterday", "monday", "last monday", "3 days ago" (a day means its end), each also with '
    'a time ("yesterday 14:30", "14:30" for today), "2 hours ago", as answers show it ("Fri 2026-11-20 14:30"), or '
    "ISO: 2026-11-20, 2026-11-20T14:30, 2026-11-20T14:30Z."
)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
_DAYS = {"day": timedelta(days=1), "week": timedelta(days=7)}
_MONTHS = {"month": 1, "year": 12}
_HOURS_AGO = r"(\d{1,6}|an?) (minute|hour)s? ago\Z"
_DAYS_AGO = r"(\d{1,6}|an?) (day|week|month|year)s? ago\Z"
_TIME = r"\d{4}-?\d\d-?\d\d[t ]\S+\Z"
_SHOWN = r"(mon|tue|wed|thu|fri|sat|sun) (?=(\d{4}-\d\d-\d\d)\b)"
_TIME_FIRST = r"(\d{1,2}:\d\d(?::\d\d)?)(?: (.+))?\Z"
_WITH_TIME = r"(.+?)(?: at)? (\d{1,2}):(\d\d)(?::(\d\d))?\Z"


class _LocalZone(tzinfo):
    """The zone of this machine (TZ, else /etc/localtime) as the C library knows it, DST changes and all."""

    def utcoffset(self, moment: datetime | None, /) -> timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, moment: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None, /) -> str | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime, /) -> datetime:
        local = moment.replace(tzinfo=UTC).astimezone()
        wall = local.replace(tzinfo=self)
        return wall if wall.utcoffset() == local.utcoffset() else wall.replace(fold=1)

    def __repr__(self) -> str:
        return "local time"


def local_zone() -> tzinfo:
    """The zone of this machine, for everything that speaks of days and hours."""
    return _LocalZone()


def of_file(mtime_ns: int) -> datetime | None:
    """When a file was changed, in UTC; None for a time that no calendar has: a user of the volume may give it any."""
    try:
        at = _EPOCH + timedelta(microseconds=mtime_ns // 1000)
    except OverflowError:
        return None
    return at if at.year in _EVERYWHERE else None


def moment(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The latest time (aware, UTC) that `text` may mean; `now` is aware. Raises UsageError with what is allowed."""
    return _meant(text, now, zone or local_zone(), at_end=True)


def since(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The earliest time that `text` may mean: of a day its beginning. The rest is as for `moment`."""
    return _meant(text, now, zone or local_zone(), at_end=False)


def _meant(text: str, now: datetime, zone: tzinfo, *, at_end: bool) -> datetime:
    words = " ".join(text.split()).lower()
    if time_first := re.match(_TIME_FIRST, words):
        words = f"{time_first[2] or 'today'} {time_first[1]}"
    try:
        words = _without_weekday(words)
        found = _exact(words, now, zone)
        found = found if found is not None else _on_day(words, now.astimezone(zone).date(), zone, at_end=at_end)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time", _ALLOWED) from None
    if time_first and not time_first[2] and found > now:  # yesterday's, or none?
        raise UsageError(f"{text!r} is yet to come today", f'Name the day: "yesterday {time_first[1]}".')
    return found


def _without_weekday(text: str) -> str:
    """A date as answers show it, `fri 2026-11-20`, without the day of the week. Raises ValueError if that is wrong."""
    shown = re.match(_SHOWN, text)
    if not shown:
        return text
    if not _WEEKDAYS[date.fromisoformat(shown[2]).weekday()].startswith(shown[1]):
        raise ValueError(f"{shown[2]} is another day")
    return text[shown.end() :]


def _exact(text: str, now: datetime, zone: tzinfo) -> datetime | None:
    """Texts that mean a time; None for those that mean a day."""
    if text == "now":
        return now.astimezone(UTC)
    ago = re.match(_HOURS_AGO, text)
    if ago:
        return now.astimezone(UTC) - _count(ago[1]) * _HOURS[ago[2]]
    if not re.match(_TIME, text):
        return None
    stated = datetime.fromisoformat(text.upper())
    return (stated if stated.tzinfo else stated.replace(tzinfo=zone, fold=1)).astimezone(UTC)


def _on_day(text: str, today: date, zone: tzinfo, *, at_end: bool) -> datetime:
    """The end (or the beginning) of the day that `text` names, or the time of that day that it adds."""
    with_time = re.match(_WITH_TIME, text)
    if not with_time and not at_end:
        return datetime.combine(_day(text, today), time(), zone).astimezone(UTC)
    if not with_time:
        following = datetime.combine(_day(text, today) + timedelta(days=1), time(), zone)
        return following.astimezone(UTC) - timedelta(microseconds=1)
    clock = time(int(with_time[2]), int(with_time[3]), int(with_time[4] or 0), fold=1)
    return datetime.combine(_day(with_time[1], today), clock, zone).astimezone(UTC)


def _day(text: str, today: date) -> date:
    ago = re.match(_DAYS_AGO, text)
    if ago:
        return _earlier(today, _count(ago[1]), ago[2])
    word = text.removeprefix("last ")
    if word in _WEEKDAYS:
        back = (today.weekday() - _WEEKDAYS.index(word)) % 7
        return today - timedelta(days=back or (7 if word != text else 0))
    days = {"today": 0, "yesterday": 1}
    return today - timedelta(days=days[text]) if text in days else date.fromisoformat(text.upper())


def _earlier(today: date, count: int, unit: str) -> date:
    if unit in _DAYS:
        return today - count * _DAYS[unit]
    months = today.year * 12 + today.month - 1 - count * _MONTHS[unit]
    first = date(months // 12, months % 12 + 1, 1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return last.replace(day=min(today.day, last.day))


def _count(text: str) -> int:
    return int(text) if text.isdigit() else 1
