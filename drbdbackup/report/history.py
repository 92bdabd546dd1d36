"""What was done, for people and as documents: a row for each run and task, and all that is known of one. No rich."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog.bodies import GONE
from drbdbackup.catalog.history import Activity
from drbdbackup.commands.runs import Runs
from drbdbackup.model.backup import Outcome, iso
from drbdbackup.report import text
from drbdbackup.report.documents import time

_COLOURS = {"failed": 31, "interrupted": 31, "refused": 31, "partial": 33, "held": 33}
_OUTCOME = re.compile(rf"(?:^|(?<=  )|(?<=: ))(?:{'|'.join(_COLOURS)})(?=  |$|:)")
_HEADS = ("RESOURCE", "BEGAN", "NODE", "WHAT", "OUTCOME", "TOOK", "ID", "DETAILS")


def table(runs: Runs, width: int | None = None) -> Iterator[str]:
    """A row for each, the newest first."""
    if not runs.done:
        yield "No run matches."
        return
    several = len({one.resource for one in runs.done}) > 1
    rows = [_HEADS, *(_row(one) for one in runs.done)]
    at = int(several)
    shown = rows if several else [row[1:] for row in rows]
    yield from text.fitted(shown, width, wrap=(at + 6,), drop=(at + 1, at + 4, at, at + 2))
    if runs.more:
        yield f"and {runs.more} before them (--limit)"


def painted(line: str) -> str:
    """A line of these, with an outcome that needs attention in colour."""
    return _OUTCOME.sub(lambda found: f"\033[{_COLOURS[found[0]]}m{found[0]}\033[0m", line)


def one(done: Activity, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """All that is known of one."""
    yield f"{done.resource}: {done.what.value} {done.name}: {done.outcome.value}"
    yield from text.fitted(_about(done, now or datetime.now(UTC)), width, wrap=(1,), indent="  ")


def document(done: Activity) -> dict[str, Any]:
    """One of `runs --json`."""
    return {
        "id": done.name, "what": done.what.value, "resource": done.resource, "node": done.node,
        "outcome": done.outcome.value, "started_at": iso(done.started_at), "finished_at": iso(done.finished_at),
        "seconds": int(done.seconds), "because": list(done.because), "snapshot": done.snapshot or None,
        "place": done.place or None, "files": done.files, "bytes": done.bytes, "due_at": time(done.due_at),
        "targets": {name: ended.as_document() for name, ended in done.targets},
        "pruned": [{"snapshot": gone.snapshot, "target": gone.target or None, "reason": gone.reason}
                   for gone in done.pruned],
    }  # fmt: skip


def documents(runs: Runs) -> dict[str, Any]:
    """`runs --json`."""
    return {"runs": [document(one) for one in runs.done], "more": runs.more, "closed_roads": runs.closed}


def _row(done: Activity) -> tuple[str, ...]:
    return (
        done.resource, text.day_and_time(done.started_at), done.node, done.what.value, done.outcome.value,
        text.span(done.seconds), done.name, "; ".join(_details(done)),
    )  # fmt: skip


def _details(done: Activity) -> Iterator[str]:
    """Why it ended as it did, or what it has done."""
    if done.outcome is Outcome.COMPLETE:
        yield from filter(None, [done.place or ", ".join(name for name, _ in done.targets)])
        if done.bytes:
            yield text.size(done.bytes)
    elif failed := [(name, ended) for name, ended in done.targets if ended.outcome == "failed"]:
        yield from (f"{name}: {ended.message}" for name, ended in failed)
    else:
        yield from done.because[-1:] if done.targets else done.because
    gone = sum(copy.reason == GONE for copy in done.pruned)
    if pruned := len(done.pruned) - gone:
        yield f"{pruned} pruned"
    if gone:
        yield f"{text.count(gone, 'copy', 'copies')} not there any more"


def _about(done: Activity, now: datetime) -> Iterator[tuple[str, str]]:
    yield "node", done.node
    yield "began", text.when(done.started_at, now)
    yield "took", text.span(done.seconds)
    if done.due_at is not None:
        yield "was due", text.when(done.due_at, now)
    if done.snapshot and done.snapshot != done.name:
        yield "snapshot", done.snapshot
    if done.place:
        yield "at", done.place
    if done.files:
        moved = "copied" if done.targets else "handled"
        yield moved, f"{text.count(done.files, 'file')}, {text.size(done.bytes or 0)}"
    yield from _column("because", done.because)
    for name, ended in done.targets:
        yield name, ended.outcome + (f": {ended.message}" if ended.message else "")
        yield from [("", ended.hint)] if ended.hint else []
    gone = [f"{copy.snapshot}{f' on {copy.target}' if copy.target else ''}: {copy.reason}" for copy in done.pruned]
    yield from _column("pruned", gone)


def _column(head: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from (("" if at else head, one) for at, one in enumerate(values))
