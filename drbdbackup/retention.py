"""Which copies of one resource on one medium stay: dated ones as the policy counts them, never fewer than its minimum.

A pinned copy never goes, whoever asks. A copy in which files are missing never takes the place of a whole one. While a
split brain stands, nothing goes; a discarded lineage takes no place from the one that lives, and ages with it.

Pure. Who made a copy plays no part, so a pair that changes sides keeps the same set as one that never does. Clocks
differ between nodes: the order is that of the sequence, times only say to which day a copy belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import islice

from msgspec import Struct

from drbdbackup.config.values import Retention
from drbdbackup.lineage import ONE_LINE, Lineages
from drbdbackup.model.backup import Copy
from drbdbackup.moment import local_zone


class Judged(Struct, frozen=True):
    """A copy, whether it stays, and why, for people."""

    copy: Copy
    keep: bool
    reason: str


PINNED = "pinned"
FROZEN = "split brain: retention is frozen, nothing is pruned until it is resolved"

# The offset tells the two hours of the autumn change apart; weeks are those of ISO 8601, which begin on Monday.
_PERIODS = (
    ("hourly", "%Y-%m-%d %H:00 %z"),
    ("daily", "%Y-%m-%d"),
    ("weekly", "%G-W%V"),
    ("monthly", "%Y-%m"),
    ("yearly", "%Y"),
)

SAFETY_KEPT = timedelta(days=7)

_Reasons = Iterator[tuple[Copy, str]]


def is_pinned(copy: Copy) -> bool:
    """Whether a copy never goes, whatever a rule, a shortage of room or its age says: until somebody unpins it.

    Whoever removes a copy, or makes it into another one, asks this, or has `plan` or `safety` judge.
    """
    return copy.pinned_at is not None


def plan(
    copies: Sequence[Copy], policy: Retention, now: datetime, zone: tzinfo | None = None, lines: Lineages = ONE_LINE
) -> tuple[Judged, ...]:
    """Judge all nodes' copies of one resource on one medium, newest first.

    Where files are missing (`problems`), a copy fills a period only if that has no whole one, and counts towards
    `minimum` only if there are too few whole ones. Damaged copies fill no place, and go only where `minimum` good ones
    are there. Copies from after `now` stay, and so do pinned ones. `lines` are the lineages of all copies of the
    resource.
    """
    ordered = sorted(copies, key=lambda copy: (copy.sequence, copy.started_at, copy.snapshot), reverse=True)
    if lines.rivals:
        return tuple(Judged(copy, True, FROZEN) for copy in ordered)
    reasons: dict[str, str] = {}
    for copy, reason in _reasons(sorted(ordered, key=lines.is_discarded), policy, now, zone or local_zone(), lines):
        reasons.setdefault(copy.snapshot, reason)
    return tuple(
        Judged(copy, copy.snapshot in reasons, reasons.get(copy.snapshot) or _dropped(copy)) for copy in ordered
    )


def safety(
    kept: Sequence[Copy], copies: Sequence[Copy], now: datetime, lines: Lineages = ONE_LINE
) -> tuple[Judged, ...]:
    """Judge what restores in place have kept on one medium, where `copies` are the backups: no rule counts these.

    Each goes once `SAFETY_KEPT` is over and a whole backup was made there since, unless it is pinned. Nothing goes in a
    split brain.
    """
    whole = [copy.started_at for copy in copies if copy.damaged_at is None and not _lacks_files(copy)]
    judged = []
    for copy in kept:
        is_over = now - copy.started_at >= SAFETY_KEPT and any(at > copy.started_at for at in whole)
        stays = f"safety copy, for {SAFETY_KEPT.days} days and until a whole backup was made after it"
        reason = f"safety copy, past its {SAFETY_KEPT.days} days" if is_over else stays
        if lines.rivals or is_pinned(copy):
            judged.append(Judged(copy, True, FROZEN if lines.rivals else PINNED))
        else:
            judged.append(Judged(copy, not is_over, reason))
    return tuple(judged)


def _reasons(ordered: list[Copy], policy: Retention, now: datetime, zone: tzinfo, lines: Lineages) -> _Reasons:
    """Every reason to keep a copy; the first one given to a copy is the one that is shown. Discarded ones come last."""
    yield from ((copy, PINNED) for copy in ordered if is_pinned(copy))
    yield from ((copy, "newest") for copy in ordered[:1])
    yield from ((copy, "from the future") for copy in ordered if copy.started_at > now)
    good = [copy for copy in ordered if copy.damaged_at is None and copy.started_at <= now]
    living = [copy for copy in good if not lines.is_discarded(copy)]
    yield from ((copy, f"last {policy.last}") for copy in living[: policy.last])
    counting = [(rule, form) for rule, form in _PERIODS if getattr(policy, rule)]
    local = [(copy, copy.started_at.astimezone(zone)) for copy in good] if counting else []
    for rule, form in counting:
        by_period = [(copy, at.strftime(form)) for copy, at in local]
        theirs = [(copy, period) for copy, period in by_period if not lines.is_discarded(copy)]
        yield from _dated(theirs, rule, getattr(policy, rule))
        for line in lines.discarded:
            yield from _aging([(copy, period) for copy, period in by_period if copy in line], theirs, rule, policy)
    whole_first = sorted(good, key=lambda copy: (lines.is_discarded(copy), _lacks_files(copy)))
    yield from ((copy, "last verified") for copy in islice((copy for copy in whole_first if copy.verified_at), 1))
    yield from ((copy, f"minimum of {policy.minimum}") for copy in whole_first[: policy.minimum])
    if len(good) < policy.minimum:
        few = f"damaged, but fewer than {policy.minimum} good ones"
        yield from ((copy, few) for copy in ordered if copy.damaged_at)


def _aging(own: list[tuple[Copy, str]], living: list[tuple[Copy, str]], rule: str, policy: Retention) -> _Reasons:
    """A discarded lineage's copies in the periods that the rule spans; those of the living one move it along."""
    by_order = sorted([*own, *living], key=lambda item: (item[0].sequence, item[0].started_at), reverse=True)
    spanned = {period: None for _, period in by_order}
    chosen = {period: copy for copy, period in reversed(own)}
    for period in islice(spanned, getattr(policy, rule)):
        if period in chosen:
            yield chosen[period], f"{rule} {period}, of a discarded lineage"


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


def _dropped(copy: Copy) -> str:
    if copy.damaged_at:
        return "damaged"
    return "files are missing, and no rule keeps it" if _lacks_files(copy) else "no rule keeps it"
