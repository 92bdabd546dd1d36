"""Which copies of one resource on one medium stay: dated ones as the policy counts them, never fewer than its minimum.

A copy in which files are missing never takes the place of a whole one.

Pure. Who made a copy plays no part, so a pair that changes sides keeps the same set as one that never does. Clocks
differ between nodes: the order is that of the sequence, times only say to which day a copy belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import islice

from drbdbackup.config.values import Retention
from drbdbackup.model.backup import Copy
from drbdbackup.moment import local_zone


@dataclass(frozen=True, slots=True)
class Judged:
    """A copy, whether it stays, and why, for people."""

    copy: Copy
    keep: bool
    reason: str


# The offset tells the two hours of the autumn change apart; weeks are those of ISO 8601, which begin on Monday.
_PERIODS = (
    ("hourly", "%Y-%m-%d %H:00 %z"),
    ("daily", "%Y-%m-%d"),
    ("weekly", "%G-W%V"),
    ("monthly", "%Y-%m"),
    ("yearly", "%Y"),
)

_Reasons = Iterator[tuple[Copy, str]]


def plan(
    copies: Sequence[Copy], policy: Retention, now: datetime, zone: tzinfo | None = None
) -> tuple[Judged, ...]:
    """Judge all nodes' copies of one resource on one medium, newest first.

    Where files are missing (`problems`), a copy fills a period only if that has no whole one, and counts towards
    `minimum` only if there are too few whole ones. Damaged copies fill no place, and go only where `minimum` good ones
    are there. Copies from after `now` stay.
    """
    ordered = sorted(copies, key=lambda copy: (copy.sequence, copy.started_at, copy.snapshot), reverse=True)
    good = [copy for copy in ordered if copy.damaged_at is None and copy.started_at <= now]
    reasons: dict[str, str] = {}
    for copy, reason in _reasons(ordered, good, policy, now, zone or local_zone()):
        reasons.setdefault(copy.snapshot, reason)
    return tuple(
        Judged(copy, copy.snapshot in reasons, reasons.get(copy.snapshot) or _dropped(copy)) for copy in ordered
    )


def _reasons(ordered: list[Copy], good: list[Copy], policy: Retention, now: datetime, zone: tzinfo) -> _Reasons:
    """Every reason to keep a copy; the first one given to a copy is the one that is told."""
    yield from ((copy, "newest") for copy in ordered[:1])
    yield from ((copy, "from the future") for copy in ordered if copy.started_at > now)
    for rule, form in _PERIODS:
        yield from _dated([(copy, _local(copy, zone, form)) for copy in good], rule, getattr(policy, rule))
    whole_first = sorted(good, key=_lacks_files)
    yield from ((copy, "last verified") for copy in islice((copy for copy in whole_first if copy.verified_at), 1))
    yield from ((copy, f"minimum of {policy.minimum}") for copy in whole_first[: policy.minimum])
    if len(good) < policy.minimum:
        few = f"damaged, but fewer than {policy.minimum} good ones"
        yield from ((copy, few) for copy in ordered if copy.damaged_at)


def _dated(good: Iterable[tuple[Copy, str]], rule: str, count: int) -> _Reasons:
    """One copy of each of the `count` newest periods that have any: its newest whole one, else its newest.

    `good` has each copy's period with it, the newest copy first.
    """
    chosen: dict[str, Copy] = {}
    for copy, period in good:
        if period in chosen and _lacks_files(chosen[period]) and not _lacks_files(copy):
            del chosen[period]  # it takes the place of the copy that fills it: else a second plan would differ
        chosen.setdefault(period, copy)
    for period, copy in islice(chosen.items(), count):
        missing = ", no whole one there" if _lacks_files(copy) else ""
        yield copy, f"{rule} {period}{missing}"


def _lacks_files(copy: Copy) -> bool:
    return copy.problems > 0


def _local(copy: Copy, zone: tzinfo, form: str) -> str:
    return copy.started_at.astimezone(zone).strftime(form)


def _dropped(copy: Copy) -> str:
    if copy.damaged_at:
        return "damaged"
    return "files are missing, and no rule keeps it" if _lacks_files(copy) else "no rule keeps it"
