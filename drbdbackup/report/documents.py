"""What `--json` prints: values to documents. Scripts depend on them: keys may be added, none goes and none changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from drbdbackup.model.backup import Copy, Outcome, Reach, iso

if TYPE_CHECKING:  # `latest` must not pay for what the others are made of
    from drbdbackup.catalog.unconfigured_resources import OtherResource
    from drbdbackup.commands.config import Validated
    from drbdbackup.commands.drill import Drilled
    from drbdbackup.commands.latest import Latest
    from drbdbackup.commands.list_copies import Listed
    from drbdbackup.commands.pin import PinAnswer
    from drbdbackup.commands.prune import PrunedTarget
    from drbdbackup.commands.replicate import Replicated
    from drbdbackup.commands.restore_resume import Finished
    from drbdbackup.commands.run import Alarm, Attempt, RunAnswer
    from drbdbackup.commands.scrub import Scrubbed
    from drbdbackup.commands.status import ResourceStatus, Status
    from drbdbackup.commands.sync import Synced
    from drbdbackup.commands.target import AcceptedTarget, KeySheet, TargetSeen
    from drbdbackup.commands.verify import Verified
    from drbdbackup.due import TargetDue
    from drbdbackup.errors import DrbdBackupError
    from drbdbackup.lineage import Lineage
    from drbdbackup.pipeline.backup.order import TargetResult
    from drbdbackup.pipeline.copies.known_copies import KnownCopy
    from drbdbackup.pipeline.restore.request import Restored, RestorePlan


def copy(one: Copy, reach: Reach) -> dict[str, Any]:
    """One copy, and whether it can be read from here."""
    return {
        "snapshot": one.snapshot, "sequence": one.sequence, "node": one.node, "target": one.target, "kind": one.kind,
        "location": one.location, "path": one.path, "started_at": iso(one.started_at),
        "finished_at": iso(one.finished_at), "files": one.files, "bytes": one.bytes,
        "verified_at": time(one.verified_at), "reachable": reach.as_json, "resource": one.resource,
        "medium": one.medium, "problems": one.problems, "damaged_at": time(one.damaged_at),
        "generation": one.generation.current if one.generation else None, "drilled_at": time(one.drilled_at),
        "purpose": one.purpose or "backup", "signed": one.has_known_manifest,
        "pinned_at": time(one.pinned_at), "note": one.note,
    }  # fmt: skip


def latest(known: Latest) -> dict[str, Any]:
    """`latest --json`."""
    return {
        "resource": known.resource,
        "backup": found(known.backup),
        "copies": [found(one) for one in known.copies],
        "lineages": [_lineage(line, newest) for line, newest in known.heads],
        "catalogs": {one.node: {"seen_at": time(one.seen_at), "road": one.road or None} for one in known.heard},
        "closed_roads": known.closed,
        "error": error(known.missing),
    }


def found(one: KnownCopy | None) -> dict[str, Any] | None:
    """A copy with the lineage that it is of, where there are several; null for none."""
    if one is None:
        return None
    lineage = one.line.generation if one.line else None
    return {**copy(one.copy, one.reach), "lineage": lineage, "discarded": one.is_discarded, "retired": one.retired}


def listed(known: Listed) -> dict[str, Any]:
    """`list --json`: the copies, and the same by snapshot."""
    return {
        "copies": [found(one) for one in known.copies],
        "snapshots": [_snapshot([one.copy for one in copies], copies) for copies in known.snapshots],
        "more": known.more,
        "other_resources": _others(known.others),
    }


def _others(others: Sequence[OtherResource]) -> list[dict[str, Any]]:
    return [{"resource": one.name, "snapshots": one.snapshots} for one in others]


def _snapshot(copies: Sequence[Copy], known: Sequence[KnownCopy]) -> dict[str, Any]:
    first = copies[0]
    return {
        "snapshot": first.snapshot, "resource": first.resource, "sequence": max(one.sequence for one in copies),
        "node": first.node, "started_at": iso(first.started_at), "files": first.files, "bytes": first.bytes,
        "purpose": first.purpose or "backup", "pinned_at": time(first.pinned_at), "note": first.note,
        "copies": [
            {
                "target": one.copy.target, "location": one.copy.location, "reachable": one.reach.as_json,
                "damaged_at": time(one.copy.damaged_at), "verified_at": time(one.copy.verified_at),
            }
            for one in known
        ],
    }  # fmt: skip


def _lineage(line: Lineage, newest: KnownCopy | None) -> dict[str, Any]:
    return {
        "generation": line.generation, "nodes": list(line.nodes), "discarded": line.discarded, "backup": found(newest),
    }  # fmt: skip


def status(known: Status) -> dict[str, Any]:
    """`status --json`."""
    return {
        "node": known.node,
        "resources": [_of(one) for one in known.resources],
        "closed_roads": known.closed,
        "other_resources": _others(known.others),
    }


def error(one: DrbdBackupError | None) -> dict[str, Any] | None:
    """What went wrong, with its code (docs/errors.md); null for nothing."""
    return one.as_document() if one else None


def validated(found: Validated) -> dict[str, Any]:
    """`config validate --json` of a file that is right."""
    config = found.config
    return {
        "file": config.file, "valid": True, "node": config.node, "nodes": list(config.nodes),
        "resources": [one.name for one in config.resources], "targets": [one.name for one in config.targets],
        "next_due": iso(found.next_due), "notes": list(found.notes),
    }  # fmt: skip


def time(moment: datetime | None) -> str | None:
    """A time, or null."""
    return None if moment is None else iso(moment)


def _of(one: ResourceStatus) -> dict[str, Any]:
    verdict, run = one.verdict, one.last_run
    return {
        "resource": one.resource, "role": verdict.role.value, "disk": verdict.disk, "peer_role": verdict.peer_role,
        "source": one.source, "verdict": verdict.decision.value, "because": list(verdict.because),
        "last_complete": found(one.last_complete), "next_due": iso(one.next_due),
        "due_since": time(one.due_since), "own_schedules": [_target_due(due) for due in one.own_schedules],
        "hint": verdict.hint,
        "verified_at": time(one.verified_at), "drilled_at": time(one.drilled_at),
        "pair": {"state": one.pair.state.value, "because": list(one.pair.because)},
        "lineages": [{"lineage": word, "backup": found(head)} for word, head in one.heads],
        "restore": _restoring(one),
        "last_run": None if run is None else {
            "outcome": run.outcome.value, "started_at": iso(run.started_at), "finished_at": iso(run.finished_at),
            "because": list(run.because), "snapshot": run.snapshot,
            "targets": {name: ended.as_document() for name, ended in run.targets},
        },
    }  # fmt: skip


def _target_due(one: TargetDue) -> dict[str, Any]:
    return {"target": one.target, "next_due": iso(one.next_due), "due_since": time(one.since)}


def _restoring(one: ResourceStatus) -> dict[str, Any] | None:
    """A restore in place that has not ended, as it is written down, and whether it goes on here or was interrupted."""
    if one.restoring is None:
        return None
    state = "under-way" if one.at_work else "interrupted"
    return {"state": state, "half": one.restoring.is_half, **one.restoring.as_document()}


def attempts(node: str, made: Sequence[Attempt]) -> dict[str, Any]:
    """What came of a run, for each resource."""
    return {"node": node, "runs": [_attempt(one) for one in made]}


def run(
    node: str, answer: RunAnswer, replicas: Sequence[Replicated], scrubs: Sequence[Scrubbed]
) -> dict[str, Any]:
    """`run --json`: all that cron's run does."""
    return {
        **attempts(node, answer.attempts), "scrubbed": scrubbed(scrubs),
        "alarms": [alarm(one) for one in answer.alarms], "replicated": [replica(one) for one in replicas],
    }  # fmt: skip


def alarm(one: Alarm) -> dict[str, Any]:
    """What is critical about a pair."""
    return {"resource": one.resource, "because": list(one.because), "error": error(one.error)}


def replica(one: Replicated) -> dict[str, Any]:
    """What came of fetching a snapshot to a disk of this node; in a dry run `copy` is null, and so is `error`."""
    return {
        "resource": one.resource, "target": one.target, "location": one.location, "snapshot": one.snapshot,
        "sources": [source.location for source in one.sources],
        "fetched_from": one.fetched_from.location if one.fetched_from else None,
        "copy": copy(one.copy, Reach.YES) if one.copy else None, "files": one.files, "bytes": one.bytes,
        "pruned": list(one.pruned), "error": error(one.error),
    }  # fmt: skip


def _attempt(one: Attempt) -> dict[str, Any]:
    result = one.result
    verdict = one.verdict or (result.verdict if result else None)
    wrong = one.error or (result.error if result else None)
    if wrong is None and verdict is not None and one.outcome is Outcome.REFUSED:
        from drbdbackup.gate import refusal

        wrong = refusal(verdict, "refused")
    document = {
        "resource": one.resource, "outcome": one.outcome.value, "because": list(verdict.because) if verdict else [],
        "error": error(wrong), "status": one.status,
        "not_due": [{"target": each.target, "next_due": iso(each.next_due)} for each in one.not_due],
    }  # fmt: skip
    if result is None:
        return {**document, "snapshot": None, "dry_run": False, "counts": {}, "targets": []}
    return {
        **document, "snapshot": result.snapshot or None, "dry_run": result.dry_run, "counts": result.counts,
        "started_at": iso(result.started_at), "finished_at": iso(result.finished_at),
        "targets": [_target_result(target) for target in result.targets],
    }  # fmt: skip


def _target_result(target: TargetResult) -> dict[str, Any]:
    made = target.copy
    return {
        "target": target.name, "error": error(target.error),
        "copy": None if made is None else copy(made, Reach.YES), "notes": target.notes,
        "counts": target.counts, "pruned": target.pruned, "recycled": target.recycled or None,
        "missing": target.missing, "problem_count": target.problem_count,
        "problems": [problem.as_document() for problem in target.problems],
    }  # fmt: skip


def pinned(answer: PinAnswer) -> dict[str, Any]:
    """`pin --json` and `unpin --json`."""
    return {
        "snapshot": answer.snapshot, "resource": answer.resource, "pinned_at": time(answer.label.pinned_at),
        "note": answer.label.note, "roads": list(answer.roads), "closed_roads": answer.closed,
        "held_by": list(answer.held_by),
        "copies": [{"target": one.target, "location": one.location, "path": one.path} for one in answer.copies],
    }  # fmt: skip


def pruning(done: Sequence[PrunedTarget], *, dry_run: bool) -> dict[str, Any]:
    """`prune --json`."""
    return {"dry_run": dry_run, "targets": [_pruned_target(one) for one in done]}


def synced(done: Synced) -> dict[str, Any]:
    """`sync --json`."""
    return {
        "came": {"new": done.came.new, "closed": done.came.closed, "refused": done.came.refused},
        "went": {"open": sorted(done.went.new), "closed": done.went.closed},
        "set_aside": done.aside,
        "regained": [
            {"target": one.target, "copies": one.copies, "error": error(one.error)} for one in done.regained
        ],
    }


def target(seen: TargetSeen) -> dict[str, Any]:
    """One of `target list --json`."""
    found = seen.found
    room = found if found and found.total_bytes else None
    return {
        "name": seen.config.name, "kind": seen.config.kind, "location": seen.location, "mounted": seen.mounted,
        "expected": seen.expected.medium if seen.expected else None,
        "medium": (found.medium or None) if found else None,
        "objection": found.objection if found else "", "lacks": found.lacks if found else None,
        "free_bytes": room.free_bytes if room else None, "total_bytes": room.total_bytes if room else None,
        "enrolled_at": (found.enrolled_at or None) if found else None,
        "enrolled_by": (found.enrolled_by or None) if found else None, "error": error(seen.error),
    }  # fmt: skip


def key_sheet(sheet: KeySheet) -> dict[str, Any]:
    """`target key --json`."""
    return {
        "name": sheet.name, "kind": sheet.kind, "medium": sheet.medium or None, "repository": sheet.repository,
        "password": sheet.password, "environment": dict(sheet.env),
    }  # fmt: skip


def accepted(done: AcceptedTarget) -> dict[str, Any]:
    """`target accept --json`."""
    return {
        "name": done.name, "medium": done.medium, "location": done.location, "before": done.before,
        "snapshots": [
            {
                "resource": one.resource, "there": list(one.there), "unknown": list(one.unknown),
                "missing": list(one.missing),
            }
            for one in done.snapshots
        ],
    }  # fmt: skip


def _pruned_target(one: PrunedTarget) -> dict[str, Any]:
    return {
        "resource": one.resource, "target": one.target, "removed": list(one.removed),
        "recycled_next": one.recycled_next or None, "error": error(one.error),
        "copies": [
            {"snapshot": judged.copy.snapshot, "keep": judged.keep, "reason": judged.reason} for judged in one.judged
        ],
    }  # fmt: skip


def plan(planned: RestorePlan) -> dict[str, Any]:
    """What a restore will do."""
    passed = planned.choice.passed_over
    return {
        "resource": planned.resource, "copy": copy(planned.copy, Reach.YES), "way": planned.choice.way.name.lower(),
        "passed_over": [{"copy": copy(one.copy, Reach.NO), "why": one.why} for one in passed],
        "path": planned.request.path, "destination": planned.destination, "in_place": planned.request.in_place,
        "entries": planned.entries, "files": planned.files, "bytes": planned.bytes, "free_bytes": planned.free,
        "missing_bytes": planned.missing,
        "deleted": planned.deleted, "deleted_bytes": planned.deleted_bytes, "deleted_shown": list(planned.shown),
        "warnings": list(planned.warnings), "safety": planned.keeps,
        "services": list(planned.services),
        "in_use_by": [
            {"pid": one.pid, "name": one.name, "path": one.path, "writes": one.writes} for one in planned.busy
        ],
    }  # fmt: skip


def restored(done: Restored) -> dict[str, Any]:
    """What came of a restore."""
    result = done.result
    return {
        "restored": {
            "entries": result.entries, "files": result.files, "bytes": result.bytes, "deleted": result.deleted,
            "started_at": iso(done.started_at), "finished_at": iso(done.finished_at),
        },
        "safety_copy": None if done.in_place_outcome.kept is None else copy(done.in_place_outcome.kept, Reach.YES),
        "services": {"named": list(done.in_place_outcome.services), "problems": list(done.in_place_outcome.problems),
                     "left_stopped": done.in_place_outcome.left},
        "problem_count": result.problem_count,
        "problems": [problem.as_document() for problem in result.problems],
    }  # fmt: skip


def finished(done: Finished) -> dict[str, Any]:
    """`restore --accept`, and `--resume` where all was back."""
    return {
        "restore": done.before.as_document(),
        "services": {"named": list(done.services), "problems": list(done.problems), "left_stopped": False},
    }  # fmt: skip


def verified(found: Sequence[Verified]) -> dict[str, Any]:
    """`verify --json`."""
    return {"copies": [_verified(one) for one in found]}


def drilled(done: Drilled) -> dict[str, Any]:
    """`drill --json`."""
    is_well = not done.status
    return {
        "copy": copy(done.copy, Reach.YES), "ok": is_well, "well": is_well, "files": done.files, "bytes": done.bytes,
        "tables": done.tables, "dumps": done.dumps, "backups": done.backups,
        "started_at": iso(done.started_at), "finished_at": iso(done.finished_at),
        "problem_count": done.problem_count,
        "problems": [problem.as_document() for problem in done.problems],
        "damaged": [_verified(one) for one in done.damaged],
    }  # fmt: skip


def scrubbed(done: Sequence[Scrubbed]) -> list[dict[str, Any]]:
    """What a node that stands by has read again, in `run --json`; of the copies only those that are not well."""
    return [
        {
            "resource": one.resource, "target": one.target, "location": one.location, "part": one.scrub.part + 1,
            "parts": one.scrub.of, "files": one.scrub.files, "bytes": one.scrub.bytes,
            "is_done": one.scrub.left is None, "ended": one.ended,
            "copies": [_verified(found) for found in one.found if not found.is_well],
        }
        for one in done
    ]  # fmt: skip


def _verified(one: Verified) -> dict[str, Any]:
    return {
        "copy": copy(one.copy, Reach.NO if one.error else Reach.YES), "ok": one.is_well, "well": one.is_well,
        "share": one.share, "files": one.files, "bytes": one.bytes, "finished_at": time(one.finished_at),
        "problem_count": one.problem_count,
        "problems": [problem.as_document() for problem in one.problems],
        "added_count": one.extras.added_count, "added": list(one.extras.added), "ignored": one.extras.ignored,
        "unknown_attributes": one.unknown,
        "error": error(one.error),
    }  # fmt: skip
