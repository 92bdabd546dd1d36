"""What `find` found, for people and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from drbdbackup.commands.find import Found
from drbdbackup.model.backup import iso
from drbdbackup.pipeline.choose import told
from drbdbackup.pipeline.compare import KINDS
from drbdbackup.pipeline.versions import Kept
from drbdbackup.report import text

_HASH = 12  # digits that are shown
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def document(found: Found) -> dict[str, Any]:
    """`find --json`."""
    return {
        "resource": found.resource, "pattern": found.pattern,
        "paths": [
            {"path": one.path, "versions": [_kept(kept) for kept in one.versions]} for one in found.histories
        ],
        "snapshots": {
            copy.snapshot: {"node": copy.node, "started_at": iso(copy.started_at), "location": copy.location}
            for copy in found.snapshots
        },
        "unread": [
            {"snapshot": one.copy.snapshot, "location": one.copy.location, "why": one.why} for one in found.unread
        ],
    }  # fmt: skip


def lines(found: Found) -> Iterator[str]:
    """Each path with its versions, the newest first, and what was not looked through."""
    for one in found.histories:
        yield f"{text.printable(one.path)}: {text.count(len(one.versions), 'version')}"
        yield from text.aligned((_row(kept) for kept in one.versions), "  ")
    yield f"Looked through {text.count(len(found.snapshots), 'snapshot')} of {found.resource}."
    if found.unread:
        yield "Not looked through:"
        yield from told(found.unread).split("\n")


def _row(kept: Kept) -> tuple[str, ...]:
    one, at = kept.version, _modified(kept)
    what = one.hash[:_HASH] if one.kind == "f" else f"-> {one.link}" if one.kind == "l" else KINDS[one.kind.encode()]
    size = text.size(one.size) if one.kind == "f" else ""
    return text.local(at) if at else "", size, what, _in(kept.snapshots)


def _in(snapshots: Sequence[str]) -> str:
    if len(snapshots) == 1:
        return f"in {snapshots[0]}"
    return f"in {text.count(len(snapshots), 'snapshot')}, {snapshots[-1]} to {snapshots[0]}"


def _kept(kept: Kept) -> dict[str, Any]:
    one, at = kept.version, _modified(kept)
    return {
        "type": KINDS[one.kind.encode()], "hash": one.hash or None, "size": one.size if one.kind == "f" else None,
        "modified_at": iso(at) if at else None, "mtime_ns": one.mtime, "link": one.link or None,
        "snapshots": list(kept.snapshots),
    }  # fmt: skip


def _modified(kept: Kept) -> datetime | None:
    """The time of modification, None for one that no calendar has."""
    try:
        return _EPOCH + timedelta(microseconds=kept.version.mtime // 1000)
    except OverflowError:
        return None
