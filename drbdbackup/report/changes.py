"""What `diff` found, for people and as a document: drawn as it is read, for there may be as much as there are files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from drbdbackup.commands.diff import Changed, Compared, Side
from drbdbackup.model.backup import iso
from drbdbackup.pipeline.files.compare import KINDS
from drbdbackup.report import console, text

_SHOWN = 10


def lines(found: Compared) -> Iterator[str]:
    """What is compared, a line for each entry that differs, and the sums."""
    now = datetime.now(UTC)
    yield f"{found.resource}: from {_side(found.before, now)} to {_side(found.after, now)}"
    for one in found.changes():
        yield f"  {one.change:<10}  {text.printable(one.path)}{'/' if one.letter == 'd' else ''}{_detail(one)}"
    told = [f"{found.counts[name]:,} {word}{_size(found.bytes[name])}" for name, word in _SUMS.items()]
    yield f"{', '.join(told)}; {text.count(found.same, 'entry', 'entries')} the same"


def document(found: Compared) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """`diff --json`: the document, and the list `changes` that belongs into it."""
    return {
        "resource": found.resource, "before": _side_document(found.before), "after": _side_document(found.after),
        "counts": {**found.counts, "same": found.same}, "bytes": found.bytes,
        "problem_count": found.problem_count,
        "problems": [{"path": path, "problem": why} for path, why in found.problems],
    }, (_changed(one) for one in found.changes())  # fmt: skip


def complain(found: Compared) -> None:
    """What could not be read, on stderr."""
    if found.problem_count:
        shown = [f"{text.printable(path)}: {why}" for path, why in found.problems[:_SHOWN]]
        more = [f"and {found.problem_count - len(shown):,} more"] if found.problem_count > len(shown) else []
        told = text.count(found.problem_count, "entry", "entries")
        console.complain(f"{found.resource}: {told} could not be read and compared", "\n".join([*shown, *more]))


_SUMS = {"added": "added", "removed": "removed", "content": "with other content", "attributes": "with other attributes"}


def _side(side: Side, now: datetime) -> str:
    if side.copy is None:
        return "now"
    return f"{side.copy.snapshot} on {side.copy.target} ({text.age(side.at, now)})"


def _side_document(side: Side) -> dict[str, Any]:
    copy = side.copy
    return {
        "snapshot": copy.snapshot if copy else None, "at": iso(side.at), "location": copy.location if copy else None,
    }  # fmt: skip


def _detail(one: Changed) -> str:
    """Sizes of files, and in which ways an entry that is on both sides differs."""
    sizes = [text.size(size) for size in (one.before, one.after) if size is not None and one.letter == "f"]
    told = [" -> ".join(dict.fromkeys(sizes))] if sizes and one.change != "attributes" else []
    told += [what for what in one.what if what != "content"]
    return f" ({', '.join(told)})" if told else ""


def _size(size: int) -> str:
    return f" ({text.size(size)})" if size else ""


def _changed(one: Changed) -> dict[str, Any]:
    is_file = one.letter == "f"
    return {
        "path": one.path, "type": KINDS[one.letter.encode()], "change": one.change, "what": list(one.what),
        "size_before": one.before if is_file else None, "size_after": one.after if is_file else None,
    }  # fmt: skip
