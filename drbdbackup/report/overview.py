"""What is known, for people: `latest`, `list` and `status` as plain text. Instant, so no rich."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup import documentation
from drbdbackup.catalog.bodies import EndedTarget
from drbdbackup.model.backup import Copy, Reach, newer_adopted
from drbdbackup.model.restoring import RESUME
from drbdbackup.model.role import Decision
from drbdbackup.pipeline.copies.known_copies import newer_retired
from drbdbackup.report import text

if TYPE_CHECKING:  # `latest` must not pay for what `status` is made of
    from drbdbackup.catalog.unconfigured_resources import OtherResource
    from drbdbackup.commands.latest import Latest
    from drbdbackup.commands.list_copies import Listed
    from drbdbackup.commands.status import ResourceStatus, Status
    from drbdbackup.pipeline.copies.known_copies import Heard, KnownCopy

_REACH = {Reach.YES: "reachable", Reach.NO: "out of reach", Reach.UNKNOWN: "not known from here"}
_ALSO = 6  # further copies that `latest` shows: `list` has them all
_COPY_HEADS = ("SNAPSHOT", "WHERE", "MADE", "FILES", "SIZE", "STATE")
_SNAPSHOT_HEADS = ("SNAPSHOT", "MADE", "FILES", "SIZE", "COPIES", "STATE")
_VERDICTS = {
    Decision.PROCEED: "a run would back it up",
    Decision.STAND_DOWN: "a run would stand down",
    Decision.REFUSE: "a run would refuse",
}


def latest(known: Sequence[Latest], width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """Of each resource the newest backup and the other copies; then how fresh this knowledge is.

    `width` is that of the terminal, None without one; `now` is this moment by default, here and below.
    """
    now = now or datetime.now(UTC)
    for one in known:
        yield from _of_resource(one, now, width)
    yield "What is known of each node:"
    yield from text.fitted(((one.node, _heard(one, now)) for one in known[0].heard), width, wrap=(1,), indent="  ")
    yield from _closed(known[0].closed, width)


def snapshots(listed: Listed, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """A row for each snapshot, with the targets that have a copy of it."""
    now = now or datetime.now(UTC)
    several = len({one.copy.resource for one in listed.copies}) > 1
    rows = [("RESOURCE", *_SNAPSHOT_HEADS), *(_snapshot(copies, now) for copies in listed.snapshots)]
    shown = rows if several else [row[1:] for row in rows]
    at = int(several)
    yield from text.fitted(shown, width, wrap=(at + 4, at + 5), drop=(at + 2, at + 3, at + 1))
    yield from _more(listed)
    yield from _others(listed.others, width)


def copies(listed: Listed, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """All copies as a table."""
    now = now or datetime.now(UTC)
    rows = [("RESOURCE", *_COPY_HEADS), *((one.copy.resource, *_row(one, now)) for one in listed.copies)]
    several = len({one.copy.resource for one in listed.copies}) > 1
    yield from text.fitted(rows, width, wrap=(6,), drop=(4, 5, 3, 0) if several else (0, 4, 5, 3))
    yield from _more(listed)
    yield from _others(listed.others, width)


def status(known: Status, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """Role, verdict and reasons, the last backup and the next, for each resource."""
    now = now or datetime.now(UTC)
    for one in known.resources:
        yield f"{one.resource} on {known.node}: {one.verdict.role.value}, {_VERDICTS[one.verdict.decision]}"
        yield from text.fitted(_standing(one, now), width, wrap=(1,), indent="  ")
    yield from _others(known.others, width)
    yield from _closed(known.closed, width)


def _of_resource(known: Latest, now: datetime, width: int | None) -> Iterator[str]:
    backup = known.backup
    if backup is not None:
        yield from text.fitted([(sentence(known, now),)], width, wrap=(0,))
        about = [("snapshot", backup.copy.snapshot), *_about(backup, now)]
        yield from text.fitted(about, width, wrap=(1,), indent="  ")
        if newer := newer_adopted((one.copy for one in known.choice), backup.copy):
            yield f"  NEWER, but unsigned: {newer.snapshot} at {newer.location} (`drbdbackup target sign`)"
        if gone := newer_retired(known.choice, backup):
            yield f"  NEWER, but on a retired target: {_retired(gone)}"
    elif known.undecided is not None:
        yield f"{known.resource}: SPLIT BRAIN, there is no single newest backup"
        for line, head in known.heads:
            if head is not None and not line.discarded:
                yield f"The newest of {line.name} (--lineage {line.word}) is {head.copy.snapshot}"
                yield from text.fitted(_about(head, now), width, wrap=(1,), indent="  ")
    also = [found for found in known.copies if found is not backup]
    if also:
        yield "Other copies:"
        rows = [_COPY_HEADS, *(_row(found, now) for found in also[:_ALSO])]
        yield from text.fitted(rows, width, wrap=(5,), drop=(3, 4, 2), indent="  ")
    if len(also) > _ALSO:
        yield f"  and {len(also) - _ALSO} more: drbdbackup list --copies"


def sentence(known: Latest, now: datetime) -> str:
    """How old the newest backup is, and where its undamaged copies lie; or why there is none to name."""
    backup = known.backup
    if backup is None:
        return known.missing.message if known.missing else f"{known.resource}: no backup is known here"
    alike = [one for one in known.choice if one.copy.snapshot == backup.copy.snapshot and not one.copy.damaged_at]
    every = [backup, *(one for one in alike if one is not backup)]
    old = text.span(max(0.0, (now - backup.copy.started_at).total_seconds()))
    where = _listed([f"on {_named(one)}" for one in every])
    return f"{known.resource}: the newest backup is {old} old and lies {where}"


def _named(found: KnownCopy) -> str:
    """A place in a sentence: `www5's disk (out of reach)`."""
    copy = found.copy
    name = f"{copy.holder}'s {copy.target}" if copy.holder else copy.target
    return name if found.reach is Reach.YES else f"{name} ({_REACH[found.reach]})"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _more(listed: Listed) -> Iterator[str]:
    if listed.more:
        yield f"and {text.count(listed.more, 'older snapshot')} (--limit)"


def _snapshot(copies: Sequence[KnownCopy], now: datetime) -> tuple[str, ...]:
    """Its row: what is so of all its copies is its state, what is so of one stands behind that one."""
    first = copies[0].copy
    verified, drilled = _last(one.copy.verified_at for one in copies), _last(one.copy.drilled_at for one in copies)
    state = ["SAFETY COPY, no backup"] if first.purpose else []
    state += [_label(first)] if first.pinned_at or first.note else []
    state += [f"verified {text.age(verified, now)}"] if verified else []
    state += [f"drilled {text.age(drilled, now)}"] if drilled else []
    state += _lineage(copies[0])
    return (
        first.resource, first.snapshot, text.day_and_time(first.started_at), f"{first.files:,}", text.size(first.bytes),
        ", ".join(_place(one) for one in copies), ", ".join(state),
    )  # fmt: skip


def _last(times: Iterable[datetime | None]) -> datetime | None:
    return max((at for at in times if at is not None), default=None)


def _place(found: KnownCopy) -> str:
    """Where a copy is, and what is to be known of it: `disk@www5 (out of reach)`."""
    copy = found.copy
    name = f"{copy.target}@{copy.holder}" if copy.holder else copy.target
    wrong = ["DAMAGED"] if copy.damaged_at else []
    wrong += [] if found.reach is Reach.YES else [_REACH[found.reach]]
    wrong += [] if copy.has_known_manifest else ["unsigned"]
    wrong += [text.count(copy.problems, "problem")] if copy.problems else []
    wrong += ["target not configured"] if found.retired else []
    return f"{name} ({', '.join(wrong)})" if wrong else name


def _lineage(found: KnownCopy) -> list[str]:
    if found.line is None:
        return []
    return ["of a discarded lineage" if found.is_discarded else f"lineage of {found.line.name}"]


def _about(found: KnownCopy, now: datetime) -> Iterator[tuple[str, str]]:
    copy = found.copy
    yield "made by", f"{copy.node}, {text.when(copy.started_at, now)}"
    yield "stored on", f"{copy.target} ({copy.location})"
    yield "path", copy.path + (" (once that disk is mounted)" if copy.holder else "")
    yield "holds", f"{text.count(copy.files, 'file')}, {text.size(copy.bytes)}"
    if copy.problems:
        yield "lacks", f"something of {text.count(copy.problems, 'entry', 'entries')}; its snapshot.json says what"
    if not copy.has_known_manifest:
        yield "signed", "no: its manifest is not signed (`drbdbackup target sign`)"
    if copy.pinned_at or copy.note:
        yield "note", _label(copy)
    yield "now", _REACH[found.reach]
    yield "verified", text.when(copy.verified_at, now) if copy.verified_at else "never"
    yield "drilled", text.when(copy.drilled_at, now) if copy.drilled_at else "never"


def _row(found: KnownCopy, now: datetime) -> tuple[str, ...]:
    copy = found.copy
    state = ["SAFETY COPY, no backup"] if copy.purpose else []
    state.append(_REACH[found.reach])
    if copy.damaged_at:
        state.append("DAMAGED")
    elif copy.verified_at:
        state.append(f"verified {text.age(copy.verified_at, now)}")
    if copy.drilled_at:
        state.append(f"drilled {text.age(copy.drilled_at, now)}")
    if not copy.has_known_manifest:
        state.append("unsigned")
    if copy.problems:
        state.append(text.count(copy.problems, "problem"))
    if copy.pinned_at or copy.note:
        state.append(_label(copy))
    if found.retired:
        state.append("target not configured")
    state += _lineage(found)
    made = text.day_and_time(copy.started_at)
    return copy.snapshot, copy.location, made, f"{copy.files:,}", text.size(copy.bytes), ", ".join(state)


def _label(copy: Copy) -> str:
    """The label of its snapshot: `pinned (before the upgrade)`."""
    if copy.pinned_at is None:
        return copy.note
    return f"pinned ({copy.note})" if copy.note else "pinned"


def _retired(found: KnownCopy) -> str:
    copy = found.copy
    return f"{copy.snapshot} at {copy.location}; no node has the target {copy.target} in its configuration"


def _heard(one: Heard, now: datetime) -> str:
    if one.road == "local":
        return "this node"
    if one.seen_at is None:
        return "no catalog received yet"
    return f"last catalog {text.age(one.seen_at, now)}, through {one.road}"


def _closed(closed: dict[str, str], width: int | None) -> Iterator[str]:
    if closed:
        yield "Not read:"
        yield from text.fitted(closed.items(), width, wrap=(1,), indent="  ")


def _others(others: Sequence[OtherResource], width: int | None) -> Iterator[str]:
    for one in others:
        yield from text.fitted([(f"Also known: {one.described}. {one.way}",)], width, wrap=(0,))


def _standing(one: ResourceStatus, now: datetime) -> Iterator[tuple[str, str]]:
    verdict = one.verdict
    yield from (("because" if not at else "", reason) for at, reason in enumerate(verdict.because))
    if verdict.hint:
        yield "do", verdict.hint
    if one.restoring is not None:
        yield "RESTORE", "in progress" if one.at_work else one.restoring.description
        if not one.at_work and verdict.hint != RESUME:
            yield "", RESUME
    if verdict.disk or verdict.peer_role:
        yield "drbd", f"disk {verdict.disk or 'not known'}, peer {verdict.peer_role or 'not known'}"
    yield from _newest(one, now)
    for word, head in one.heads:
        yield f"of {word}", f"{head.copy.snapshot} on {_named(head)}, {text.when(head.copy.started_at, now)}"
    if one.heads:
        yield "", f"let DRBD discard the data of one of them: {documentation.page('docs/failure-modes.md')}"
    state = one.pair.state.value
    because = [text.localised(why) for why in one.pair.because]
    yield from (("" if at else "pair", why if at else f"{state}: {why}") for at, why in enumerate(because))
    if one.due_since is not None and one.is_new:
        yield "due", "the first backup: `drbdbackup run --if-due` makes it now on the Primary"
    elif one.due_since is not None:
        where = f" on {', '.join(one.untried)}, which no run has tried yet" if one.untried else ""
        yield "OVERDUE" if one.is_overdue and not where else "due", f"since {text.when(one.due_since, now)}{where}"
    yield "next due", text.when(one.next_due, now)
    for own in one.own_schedules:
        yield "", f"{own.target}: {text.when(own.next_due, now)}"
        if own.since is not None and not one.is_new:
            yield "", f"{own.target} has had no copy since {text.when(own.since, now)}: it takes part in each run"
    if one.last_run is not None:
        yield "last run", f"{one.last_run.outcome.value}, {text.when(one.last_run.started_at, now)}"
        yield from (("", _ended(name, ended)) for name, ended in one.last_run.targets)


def _newest(one: ResourceStatus, now: datetime) -> Iterator[tuple[str, str]]:
    if one.last_complete is None:
        yield "newest", "no backup is known here"
        return
    copy = one.last_complete.copy
    yield "newest", f"{copy.snapshot} on {_named(one.last_complete)}, {text.when(copy.started_at, now)}"
    if one.newer_retired is not None:
        yield "NEWER", f"but on a retired target: {_retired(one.newer_retired)}"
    times = [text.when(at, now) if at else "never" for at in (one.verified_at, one.drilled_at)]
    yield "proven", f"verified {times[0]}, drilled {times[1]}"


def _ended(name: str, ended: EndedTarget) -> str:
    return f"{name}: {ended.outcome}" + (f", {ended.message}" if ended.message else "")
