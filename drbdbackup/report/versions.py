"""What `find` found, for people and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drbdbackup.commands.find import FoundVersions
from drbdbackup.model.backup import iso
from drbdbackup.moment import of_file
from drbdbackup.pipeline.copies.choose import passed_over_lines
from drbdbackup.pipeline.explore.versions import Kept
from drbdbackup.pipeline.files.compare import KINDS
from drbdbackup.report import text

_HASH = 12  # digits that are shown


def document(found: FoundVersions) -> dict[str, Any]:
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


def lines(found: FoundVersions) -> Iterator[str]:
    """Each path with its versions, the newest first, and what was not looked through."""
    for one in found.histories:
        yield f"{text.printable(one.path)}: {text.count(len(one.versions), 'version')}"
        yield from text.aligned((_row(kept) for kept in one.versions), "  ")
    yield f"Searched {text.count(len(found.snapshots), 'snapshot')} of {found.resource}."
    if found.unread:
        yield "Not searched:"
        yield from passed_over_lines(found.unread).split("\n")


def _row(kept: Kept) -> tuple[str, ...]:
    one, at = kept.version, of_file(kept.version.mtime)
    what = one.hash[:_HASH] if one.kind == "f" else f"-> {one.link}" if one.kind == "l" else KINDS[one.kind.encode()]
    size = text.size(one.size) if one.kind == "f" else ""
    return text.local(at) if at else "", size, what, _in(kept.snapshots)


def _in(snapshots: Sequence[str]) -> str:
    if len(snapshots) == 1:
        return f"in {snapshots[0]}"
    return f"in {text.count(len(snapshots), 'snapshot')}, {snapshots[-1]} to {snapshots[0]}"


def _kept(kept: Kept) -> dict[str, Any]:
    one, at = kept.version, of_file(kept.version.mtime)
    return {
        "type": KINDS[one.kind.encode()], "hash": one.hash or None, "size": one.size if one.kind == "f" else None,
        "modified_at": iso(at) if at else None, "mtime_ns": one.mtime, "link": one.link or None,
        "snapshots": list(kept.snapshots),
    }  # fmt: skip
