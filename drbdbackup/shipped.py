"""The files that come with the program for cron, systemd and the cluster, filled in for this node. It writes nothing.

`commands/setup/install` puts them where they belong; the doctor compares what a node has with them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources

from msgspec import Struct

from drbdbackup.errors import UsageError

PROGRAM = "/usr/local/bin/drbdbackup"  # what the files name as they come
TIMERS = ("drbdbackup.timer", "drbdbackup-due.timer")
UNITS = ("drbdbackup.service", "drbdbackup.timer", "drbdbackup-due.service", "drbdbackup-due.timer")
_QUARTER = 15  # minutes
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PART = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?\Z")


class ClusterManager(Struct, frozen=True):
    """What swaps the nodes: where it looks for the agent, and files of which one is there where it is installed."""

    agent: str
    signs: tuple[str, ...]


_OCF = "/usr/lib/ocf/resource.d/drbdbackup/drbdbackup"
MANAGERS: Mapping[str, ClusterManager] = {
    "Heartbeat": ClusterManager(
        "/etc/ha.d/resource.d/drbdbackup", ("/etc/ha.d/ha.cf", "/usr/sbin/heartbeat", "/usr/lib/heartbeat/heartbeat")
    ),
    "Pacemaker": ClusterManager(_OCF, ("/etc/corosync/corosync.conf", "/usr/sbin/pacemakerd")),
    "drbd-reactor": ClusterManager(_OCF, ("/etc/drbd-reactor.toml", "/etc/drbd-reactor.d", "/usr/sbin/drbd-reactor")),
}


def managers(root: str = "") -> tuple[str, ...]:
    """The cluster managers that are installed below `root`."""
    return tuple(
        name for name, one in MANAGERS.items() if any(os.path.exists(root + path) for path in one.signs)
    )


def text(name: str) -> str:
    """One of them as it comes."""
    return resources.files("drbdbackup").joinpath("share", name).read_text(encoding="utf-8")


def cron(schedule: str, program: str = "") -> str:
    """The file for cron with this schedule in it; its look for what was missed keeps out of that minute.

    `program` is its path, where cron would not find it on the PATH that the file sets.
    """
    minute, _, rest = schedule.partition(" ")
    found = text("cron.d")
    found = re.sub(r"^[0-9]\S* .* (?=root .* drbdbackup run$)", f"{minute} {rest} ", found, count=1, flags=re.MULTILINE)
    looks = ",".join(str(_look(minute) + quarter) for quarter in range(0, 60, _QUARTER))
    found = re.sub(r"^[0-9]\S*(?= .* drbdbackup run --if-due$)", looks, found, count=1, flags=re.MULTILINE)
    [path] = re.findall(r"^PATH=(.*)$", found, re.MULTILINE)
    if not program or os.path.dirname(program) in path.split(":"):
        return found
    return re.sub(r"\bdrbdbackup(?=\)| run)", lambda _: program, found)


def unit(name: str, schedule: str, program: str) -> str:
    """A unit of systemd. Raises UsageError for a schedule that systemd cannot say."""
    found = text(name).replace(PROGRAM, program)
    if name == "drbdbackup.timer":
        lines = "\n".join(f"OnCalendar={one}" for one in calendar(schedule))
    elif name == "drbdbackup-due.timer":
        lines = f"OnCalendar=*-*-* *:{_look(schedule.split()[0]):02}/{_QUARTER}:00"
    else:
        return found
    return re.sub(r"^OnCalendar=.*$", lambda _: lines, found, flags=re.MULTILINE)


def calendar(schedule: str) -> tuple[str, ...]:
    """A time of crontab(5) as systemd.time(7) says it: where both day and weekday are given, either will do, so two.

    Raises UsageError for one that systemd has no words for (`L` and `#`, which Debian's cron has not either).
    """
    minute, hour, day, month, weekday = schedule.split()
    date = f"*-{_numbers(month, 1, _MONTHS)}-{_numbers(day, 1)}"
    time = f"{_numbers(hour, 0)}:{_numbers(minute, 0)}:00"
    if weekday == "*":
        return (f"{date} {time}",)
    days = ",".join(_weekdays(weekday))
    if day.startswith("*") or weekday.startswith("*"):
        return (f"{days} {date} {time}",)
    return (f"{days} *-{_numbers(month, 1, _MONTHS)}-* {time}", f"{date} {time}")


def _look(minute: str) -> int:
    """The first minute of the looks: seven after that of the night, in its quarter of an hour."""
    return (int(minute) + 7) % _QUARTER if minute.isdecimal() else 7


def _numbers(field: str, first: int, names: Iterable[str] = ()) -> str:
    """A field of numbers."""
    if field == "*":
        return field
    parts = []
    for start, end, step in _parts(field, {name: str(at) for at, name in enumerate(names, 1)}):
        begun = f"{start if start is not None else first:02}" + (f"..{end:02}" if end is not None else "")
        parts.append(f"{begun}/{step}" if step else begun)
    return ",".join(parts)


def _weekdays(field: str) -> Iterator[str]:
    """The names of the days, the week's first one first; 0 and 7 are Sunday."""
    found = set()
    for start, end, step in _parts(field, {day.lower(): str(at) for at, day in enumerate(_DAYS, 1)}):
        last = 6 if start is None else end if end is not None else start
        found |= {(day - 1) % 7 for day in range(start or 0, last + 1, step or 1)}
    yield from (_DAYS[day] for day in sorted(found))


def _parts(field: str, names: dict[str, str]) -> Iterator[tuple[int | None, int | None, int | None]]:
    """Start (None for `*`), end and step of each part of a list."""
    for part in field.lower().split(","):
        plain = re.sub(r"[a-z]{3}", lambda found: names.get(found[0], found[0]), part)
        match = _PART.match(plain)
        if match is None:
            hint = "Use numbers, names, lists, ranges and steps only."
            raise UsageError(f'cron and systemd do not know "{part}" of the schedule', hint)
        start, end, step = (int(one) if one else None for one in match.groups())
        yield start, end, step
