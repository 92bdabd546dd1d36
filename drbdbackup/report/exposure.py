"""What would be lost now, for people and as a document. Plain text: it is read in mails, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog.rates import Work
from drbdbackup.commands.exposure import Exposure, Line
from drbdbackup.exposure import Estimate, Kind, Left
from drbdbackup.model.backup import Reach, iso
from drbdbackup.report import documents, text

_HEADS = ("AND WITH IT", "YOU LOSE", "LEFT IS", "ON", "READABLE", "RESTORING TAKES")
_READABLE = {Reach.YES: "yes", Reach.NO: "not now", Reach.UNKNOWN: "not known from here"}
_BY = {Work.RESTORED: "a restore of", Work.VERIFIED: "a verify of", Work.COPIED: "the making of"}


def lines(found: Exposure) -> Iterator[str]:
    """A table for each line, then what the times were measured by, and what is not known and why."""
    if found.missing is not None:
        yield f"{found.resource}: if the volume is lost now, EVERYTHING is lost with it"
        return
    now = datetime.now(UTC)
    if len(found.lines) > 1:
        names = " and ".join(line.lineage.name for line in found.lines if line.lineage)
        told = f"SPLIT BRAIN, {names} wrote apart from one another; what is left depends on whose data is kept"
        yield f"{found.resource}: {told}"
    for line in found.lines:
        kept = f" (what {line.lineage.name} wrote is kept)" if line.lineage else ""
        yield f"{found.resource}: if the volume is lost now{kept}"
        yield from text.aligned([_HEADS, *(_row(found, case) for case in line.cases)], "  ")
        yield from _notes(line, now)
    for node in found.roadless:
        yield f"  how to reach {node} is not configured: its disk cannot be read from here ([peer.{node}])"
    yield from (f"  closed: {road}: {why}" for road, why in found.closed.items())


def document(node: str, every: Sequence[Exposure]) -> dict[str, Any]:
    """`exposure --json`."""
    return {"node": node, "resources": [_resource(one) for one in every]}


def _row(found: Exposure, case: Left) -> tuple[str, ...]:
    name = _name(found, case)
    if case.copy is None or case.lost is None:
        return name, "EVERYTHING", "no whole copy", "-", "-", "-"
    takes = f"about {text.span(case.estimate.seconds)}" if case.estimate else "not measured yet"
    lost = text.span(case.lost.total_seconds())
    return name, lost, case.copy.snapshot, case.copy.location, _READABLE[case.reach], takes


def _name(found: Exposure, case: Left) -> str:
    gone = case.without
    if gone.kind is Kind.NOTHING:
        return "nothing else"
    if gone.kind is Kind.NODE:
        return f"{gone.name} (this node)" if gone.name == found.node else gone.name
    return f"{gone.name} ({gone.holder}'s)" if gone.holder else gone.name


def _notes(line: Line, now: datetime) -> Iterator[str]:
    lacking = {case.lacking for case in line.cases if case.lacking is not None}
    for copy in sorted(lacking, key=lambda copy: (copy.sequence, copy.location), reverse=True):
        missing = text.count(copy.problems, "file that could not be read", "files that could not be read")
        yield f"  not counted: {copy.snapshot} on {copy.location}, it lacks {missing}"
    told = {_told(case.estimate, case.copy.location, now) for case in line.cases if case.estimate and case.copy}
    yield from sorted(told)


def _told(estimate: Estimate, location: str, now: datetime) -> str:
    """By what a time was measured."""
    by = estimate.measured
    amount = f"{text.count(by.files, 'file')}, {text.size(by.bytes)}, in {text.span(by.seconds)}"
    ssh = " over ssh" if by.over_ssh else ""
    return f"  {location}: as {_BY[by.work]} {amount}{ssh}, by {by.node}, {text.when(by.at, now)}"


def _resource(found: Exposure) -> dict[str, Any]:
    return {
        "resource": found.resource, "split_brain": len(found.lines) > 1,
        "lineages": [
            {
                "lineage": line.lineage.generation if line.lineage else None,
                "nodes": list(line.lineage.nodes) if line.lineage else [],
                "cases": [_case(case) for case in line.cases],
            }
            for line in found.lines
        ],
        "no_road_to": list(found.roadless), "closed_roads": found.closed,
    }  # fmt: skip


def _case(case: Left) -> dict[str, Any]:
    estimate, by = case.estimate, case.estimate.measured if case.estimate else None
    return {
        "without": {"kind": case.without.kind.value, "name": case.without.name or None},
        "lost_seconds": None if case.lost is None else round(case.lost.total_seconds()),
        "copy": documents.copy(case.copy, case.reach) if case.copy else None,
        "lacking": case.lacking.snapshot if case.lacking else None,
        "restore_seconds": round(estimate.seconds, 3) if estimate else None,
        "measured": None if by is None else {
            "work": by.work.value, "over_ssh": by.over_ssh, "node": by.node, "at": iso(by.at), "files": by.files,
            "bytes": by.bytes, "seconds": by.seconds,
        },
    }  # fmt: skip
