"""What would be lost now, for people and as a document. Plain text: it is read in mails, too.

What is lost is worked out in `exposure`, never here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from drbdbackup.catalog.rates import Work
from drbdbackup.commands.exposure import Exposure, LineageExposure
from drbdbackup.exposure import Estimate, Left, LossKind, Without
from drbdbackup.model.backup import Reach, iso
from drbdbackup.report import documents, text

_HEADS = ("AND WITH IT", "YOU LOSE", "LEFT IS", "ON", "READABLE", "RESTORING TAKES")
_READABLE = {Reach.YES: "yes", Reach.NO: "not now", Reach.UNKNOWN: "not known from here"}
_BY = {Work.RESTORED: "a restore of", Work.VERIFIED: "a verify of", Work.COPIED: "the copying of"}


def lines(found: Exposure, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """A table for each line, then what the times were measured by, and what is not known and why.

    `width` is that of the terminal, None without one; `now` is this moment by default.
    """
    if found.missing is not None:
        yield f"{found.resource}: if the volume is lost now, EVERYTHING is lost with it"
        return
    now = now or datetime.now(UTC)
    if len(found.lines) > 1:
        names = " and ".join(line.lineage.name for line in found.lines if line.lineage)
        warning = f"SPLIT BRAIN, {names} diverged; what is left depends on whose data is kept"
        yield f"{found.resource}: {warning}"
    for line in found.lines:
        kept = f" (what {line.lineage.name} wrote is kept)" if line.lineage else ""
        answer = f"{found.resource}: if the volume is lost now{kept}, {_answer(found, line.cases)}"
        yield from text.fitted([(answer,)], width, wrap=(0,))
        rows = [_HEADS, *(_row(found, case) for case in line.cases)]
        yield from text.fitted(rows, width, wrap=(0, 4, 5), drop=(2, 4), indent="  ")
        notes = [*_of_pairs(found, line), *_notes(line, now)]
        yield from text.fitted([(one,) for one in notes], width, wrap=(0,), indent="  ")
    yield from text.fitted([(one,) for one in _not_counted(found)], width, wrap=(0,), indent="  ")


def _not_counted(found: Exposure) -> Iterator[str]:
    for node in found.roadless:
        yield f"how to reach {node} is not configured: its disk cannot be read from here ([peer.{node}])"
    for place in found.retired:
        yield f"not counted: the copies at {place}, a target that no node has in its configuration any more"
    yield from (f"closed: {road}: {why}" for road, why in found.closed.items())


def document(node: str, every: Sequence[Exposure]) -> dict[str, Any]:
    """`exposure --json`."""
    return {"node": node, "resources": [_resource(one) for one in every]}


def _answer(found: Exposure, cases: Sequence[Left]) -> str:
    """All of it in one sentence: what is lost with nothing else, and with what it is more."""
    alone, *others = cases
    worse = [one for one in others if one.lost is None or (alone.lost is not None and one.lost > alone.lost)]
    if alone.lost is None:
        return "you lose EVERYTHING"
    if not worse:
        return f"you lose the last {_lost(alone)}, whichever node or target is lost with it"
    further = (f"with {_name(found, one)} {_lost(one)}" for one in worse)
    return f"you lose the last {_lost(alone)}; {', '.join(further)}"


def _lost(case: Left) -> str:
    return "EVERYTHING" if case.lost is None else text.span(case.lost.total_seconds())


def _row(found: Exposure, case: Left) -> tuple[str, ...]:
    name = _name(found, case)
    if case.copy is None or case.lost is None:
        return name, "EVERYTHING", "no whole copy", "-", "-", "-"
    takes = f"about {text.span(max(1.0, case.estimate.seconds))}" if case.estimate else "not measured yet"
    return name, _lost(case), case.copy.snapshot, case.copy.location, _READABLE[case.reach], takes


def _of_pairs(found: Exposure, line: LineageExposure) -> Iterator[str]:
    """Whether any two may be gone besides; else what is lost with those that may not."""
    newest = line.cases[0].copy
    if not line.pairs or newest is None:
        return
    worse = [one for one in line.pairs if one.copy is None or one.copy.snapshot != newest.snapshot]
    if not worse:
        names = dict.fromkeys(name for one in line.pairs for name in _gone(found, one.without).split(" and "))
        yield f"Any two of these may be lost as well, and the newest backup is left: {', '.join(names)}."
    for one in worse:
        yield f"With {_gone(found, one.without)} you lose {_lost(one)}."


def _name(found: Exposure, case: Left) -> str:
    return _gone(found, case.without)


def _gone(found: Exposure, gone: Without) -> str:
    if gone.also is not None:
        return f"{_gone(found, replace(gone, also=None))} and {_gone(found, gone.also)}"
    if gone.kind is LossKind.NOTHING:
        return "nothing else"
    if gone.kind is LossKind.NODE:
        return f"{gone.name} (this node)" if gone.name == found.node else gone.name
    return f"{gone.name} ({gone.holder}'s)" if gone.holder else gone.name


def _notes(line: LineageExposure, now: datetime) -> Iterator[str]:
    lacking = {case.lacking for case in line.cases if case.lacking is not None}
    for copy in sorted(lacking, key=lambda copy: (copy.sequence, copy.location), reverse=True):
        missing = text.count(copy.problems, "entry", "entries")
        yield f"not counted: {copy.snapshot} on {copy.location}, it lacks something of {missing}"
    estimates = {
        _measured_by(case.estimate, case.copy.location, now) for case in line.cases if case.estimate and case.copy
    }
    yield from sorted(estimates)


def _measured_by(estimate: Estimate, location: str, now: datetime) -> str:
    """By what a time was measured."""
    by = estimate.measured
    amount = f"{text.count(by.files, 'file')}, {text.size(by.bytes)}, in {text.span(max(1.0, by.seconds))}"
    ssh = " over ssh" if by.over_ssh else ""
    return f"{location}: measured by {_BY[by.work]} {amount}{ssh}, by {by.node}, {text.when(by.at, now)}"


def _resource(found: Exposure) -> dict[str, Any]:
    return {
        "resource": found.resource, "split_brain": len(found.lines) > 1,
        "lineages": [
            {
                "lineage": line.lineage.generation if line.lineage else None,
                "nodes": list(line.lineage.nodes) if line.lineage else [],
                "cases": [_case(case) for case in line.cases],
                "pairs": [_case(case) for case in line.pairs],
            }
            for line in found.lines
        ],
        "no_road_to": list(found.roadless), "retired": list(found.retired), "closed_roads": found.closed,
        "error": documents.error(found.missing),
    }  # fmt: skip


def _without(gone: Without) -> dict[str, Any]:
    also = {"also": _without(gone.also)} if gone.also is not None else {}
    return {"kind": gone.kind.value, "name": gone.name or None, **also}


def _case(case: Left) -> dict[str, Any]:
    estimate, by = case.estimate, case.estimate.measured if case.estimate else None
    return {
        "without": _without(case.without),
        "lost_seconds": None if case.lost is None else round(case.lost.total_seconds()),
        "copy": documents.copy(case.copy, case.reach) if case.copy else None,
        "lacking": case.lacking.snapshot if case.lacking else None,
        "restore_seconds": round(estimate.seconds, 3) if estimate else None,
        "measured": None if by is None else {
            "work": by.work.value, "over_ssh": by.over_ssh, "node": by.node, "at": iso(by.at), "files": by.files,
            "bytes": by.bytes, "seconds": by.seconds,
        },
    }  # fmt: skip
