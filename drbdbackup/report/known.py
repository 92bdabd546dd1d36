"""What is known, for people: `latest`, `list` and `status` as plain text. Instant, so no rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from drbdbackup.model.backup import Reach
from drbdbackup.model.restoring import RESUME
from drbdbackup.model.role import Decision
from drbdbackup.report import text

if TYPE_CHECKING:  # `latest` must not pay for what `status` is made of
    from drbdbackup.commands.latest import Found, Heard, Latest
    from drbdbackup.commands.status import ResourceStatus, Status

_REACH = {Reach.YES: "reachable", Reach.NO: "out of reach", Reach.UNKNOWN: "not known from here"}
_ALSO = 6  # further copies that `latest` shows: `list` has them all
_VERDICTS = {
    Decision.PROCEED: "a run would back it up",
    Decision.STAND_DOWN: "a run would stand down",
    Decision.REFUSE: "a run would refuse",
}


def latest(known: Latest) -> Iterator[str]:
    """The newest backup, the other copies, and how fresh this knowledge is."""
    now = datetime.now(UTC)
    backup = known.backup
    if backup is not None:
        yield f"{known.resource}: the newest backup is {backup.copy.snapshot}"
        yield from text.aligned(_about(backup, now), "  ")
    elif known.undecided is not None:
        yield f"{known.resource}: SPLIT BRAIN, there is no one newest backup"
        for line, head in known.heads:
            if head is not None and not line.discarded:
                yield f"The newest of {line.name} (--lineage {line.word}) is {head.copy.snapshot}"
                yield from text.aligned(_about(head, now), "  ")
    also = [found for found in known.copies if found is not backup]
    if also:
        yield "Other copies:"
        yield from text.aligned((_row(found, now) for found in also[:_ALSO]), "  ")
    if len(also) > _ALSO:
        yield f"  and {len(also) - _ALSO} more: drbdbackup list"
    yield "What is known of each node:"
    yield from text.aligned(((one.node, _heard(one, now)) for one in known.heard), "  ")
    yield from _closed(known.closed)


def copies(found: Sequence[Found]) -> Iterator[str]:
    """All of them as a table."""
    now = datetime.now(UTC)
    heads = ("RESOURCE", "SNAPSHOT", "WHERE", "MADE", "FILES", "SIZE", "STATE")
    yield from text.aligned([heads, *((one.copy.resource, *_row(one, now)) for one in found)])


def status(known: Status) -> Iterator[str]:
    """Role, verdict and reasons, the last backup and the next, for each resource."""
    now = datetime.now(UTC)
    for one in known.resources:
        yield f"{one.resource} on {known.node}: {one.verdict.role.value}, {_VERDICTS[one.verdict.decision]}"
        yield from text.aligned(_standing(one, now), "  ")
    yield from _closed(known.closed)


def _about(found: Found, now: datetime) -> Iterator[tuple[str, str]]:
    copy = found.copy
    yield "made by", f"{copy.node}, {text.when(copy.started_at, now)}"
    yield "lies on", f"{copy.target} ({copy.location})"
    yield "path", copy.path + (" (once that disk is mounted)" if copy.kind == "disk" else "")
    yield "holds", f"{text.count(copy.files, 'file')}, {text.size(copy.bytes)}"
    if copy.problems:
        yield "without", text.count(copy.problems, "file that could not be read", "files that could not be read")
    yield "now", _REACH[found.reach]
    yield "verified", text.when(copy.verified_at, now) if copy.verified_at else "never"
    yield "drilled", text.when(copy.drilled_at, now) if copy.drilled_at else "never"


def _row(found: Found, now: datetime) -> tuple[str, ...]:
    copy = found.copy
    state = ["SAFETY COPY, no backup"] if copy.purpose else []
    state.append(_REACH[found.reach])
    if copy.damaged_at:
        state.append("DAMAGED")
    elif copy.verified_at:
        state.append(f"verified {text.age(copy.verified_at, now)}")
    if copy.drilled_at:
        state.append(f"drilled {text.age(copy.drilled_at, now)}")
    if copy.problems:
        state.append(text.count(copy.problems, "problem"))
    if found.line is not None:
        state.append("of a discarded lineage" if found.is_discarded else f"lineage of {found.line.name}")
    made = text.when(copy.started_at, now)
    return copy.snapshot, copy.location, made, f"{copy.files:,}", text.size(copy.bytes), ", ".join(state)


def _heard(one: Heard, now: datetime) -> str:
    if one.road == "local":
        return "this node"
    if one.seen_at is None:
        return "never heard of"
    return f"heard of {text.age(one.seen_at, now)} through {one.road}"


def _closed(closed: dict[str, str]) -> Iterator[str]:
    if closed:
        yield "Roads that led nowhere:"
        yield from text.aligned(closed.items(), "  ")


def _standing(one: ResourceStatus, now: datetime) -> Iterator[tuple[str, str]]:
    verdict = one.verdict
    yield from (("because" if not at else "", reason) for at, reason in enumerate(verdict.because))
    if verdict.hint:
        yield "do", verdict.hint
    if one.restoring is not None:
        yield "RESTORE", "it is under way" if one.at_work else one.restoring.told
        if not one.at_work and verdict.hint != RESUME:
            yield "", RESUME
    if verdict.disk or verdict.peer_role:
        yield "drbd", f"disk {verdict.disk or 'not known'}, peer {verdict.peer_role or 'not known'}"
    if one.last_complete is not None:
        copy = one.last_complete.copy
        yield "newest", f"{copy.snapshot} on {copy.target}, {text.when(copy.started_at, now)}"
    else:
        yield "newest", "no backup is known here"
    if one.last_complete is not None:
        told = [text.when(at, now) if at else "never" for at in (one.verified_at, one.drilled_at)]
        yield "proven", f"verified {told[0]}, drilled {told[1]}"
    for word, head in one.heads:
        yield f"of {word}", f"{head.copy.snapshot} on {head.copy.target}, {text.when(head.copy.started_at, now)}"
    if one.heads:
        yield "", "let DRBD discard what one of them wrote, and all goes on: docs/failure-modes.md"
    state = one.pair.state.value
    yield from (("" if at else "pair", why if at else f"{state}: {why}") for at, why in enumerate(one.pair.because))
    if one.due_since is not None:
        yield "OVERDUE", f"since {text.when(one.due_since, now)}"
    yield "next due", text.when(one.next_due, now)
    if one.last_run is not None:
        yield "last run", f"{one.last_run.outcome.value}, {text.when(one.last_run.started_at, now)}"
        yield from (("", _ended(name, ended)) for name, ended in one.last_run.targets)


def _ended(name: str, ended: Mapping[str, str]) -> str:
    message = ended.get("message", "")
    return f"{name}: {ended.get('outcome', '')}" + (f", {message}" if message else "")
