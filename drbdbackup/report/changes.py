"""What `diff` found, for people and as a document: drawn as it is read, for there may be as much as there are files.

For people a folder that was only renamed is one line. In the document every entry is there, and the folders besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup.commands.diff import Changed, Compared, Side
from drbdbackup.model.backup import iso
from drbdbackup.pipeline.explore.diff_protocol import RenamedFolder
from drbdbackup.pipeline.files.compare import KINDS
from drbdbackup.report import console, text

_SHOWN = 10
_COLOURS = {"added": 32, "removed": 31, "content": 33, "attributes": 36, "renamed": 35}
_HEADS = ("FOLDER", "ADDED", "REMOVED", "CHANGED", "RENAMED", "SIZE")


class FolderChanges(Struct):
    """How much differs in one folder: entries, and by how many bytes its files are more or fewer."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    renamed: int = 0
    bytes: int = 0


def lines(found: Compared, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """What is compared, a line for each entry that differs, or folder that was renamed, and the sums.

    These have at most the `width` of a terminal; `now` is this moment by default.
    """
    yield from text.wrapped(_compared(found, now or datetime.now(UTC)), width)
    for one in folded(found.changes(), found.renamed):
        if isinstance(one, RenamedFolder):
            about = f"{text.count(one.entries, 'entry', 'entries')}, {text.size(one.bytes)}"
            yield f"  {'renamed':<10}  {text.printable(one.before)}/ -> {text.printable(one.after)}/ ({about})"
        else:
            yield f"  {one.change:<10}  {text.printable(one.path)}{'/' if one.letter == 'd' else ''}{_detail(one)}"
    yield from text.wrapped(_sums(found), width)


def painted(line: str) -> str:
    """A line of these with the colours of its change."""
    colour = _COLOURS.get(line[2:14].rstrip())
    return f"\033[{colour}m{line}\033[0m" if colour and line.startswith("  ") else line


def by_folder(found: Compared, width: int | None = None, now: datetime | None = None) -> Iterator[str]:
    """What is compared, a row for each folder just below the top with how much differs there, and the sums."""
    rows: dict[str, FolderChanges] = {}
    for one in folded(found.changes(), found.renamed):
        if isinstance(one, RenamedFolder):
            rows.setdefault(_folder(found, one.after, is_folder=True), FolderChanges()).renamed += 1
            continue
        row = rows.setdefault(_folder(found, one.path, is_folder=one.letter == "d"), FolderChanges())
        row.added += one.change == "added"
        row.removed += one.change == "removed"
        row.changed += one.change in ("content", "attributes")
        if one.letter == "f":
            row.bytes += (one.after or 0) - (one.before or 0)
    yield from text.wrapped(_compared(found, now or datetime.now(UTC)), width)
    if rows:
        table = [(name, *map(_number, (one.added, one.removed, one.changed, one.renamed)), _growth(one.bytes))
                for name, one in rows.items()]  # fmt: skip
        yield from text.fitted([_HEADS, *table], width, wrap=(0,), drop=(4,), indent="  ")
    yield from text.wrapped(_sums(found), width)


def folded(
    changes: Iterable[Changed], renamed: Iterable[RenamedFolder]
) -> Iterator[Changed | RenamedFolder]:
    """The changes, in their order; a renamed folder in place of all that it has removed and added, where it is now."""
    every = tuple(renamed)
    gone, came = {one.before for one in every}, {one.after: one for one in every}
    inside = {"removed": "", "added": ""}  # the folder in which we are, with its slash
    for one in changes:
        above = inside.get(one.change, "")
        if above and one.path.startswith(above):
            continue
        if one.change == "added" and one.path in came:
            inside["added"] = f"{one.path}/"
            yield came[one.path]
        elif one.change == "removed" and one.path in gone:
            inside["removed"] = f"{one.path}/"
        else:
            yield one


def document(found: Compared) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """`diff --json`: the document, and the list `changes` that belongs into it."""
    return {
        "resource": found.resource, "before": _side_document(found.before), "after": _side_document(found.after),
        "path": found.path or None,
        "counts": {**found.counts, "same": found.same}, "bytes": found.bytes,
        "renamed": [
            {"from": one.before, "to": one.after, "entries": one.entries, "bytes": one.bytes} for one in found.renamed
        ],
        "problem_count": found.problem_count,
        "problems": [problem.as_document() for problem in found.problems],
    }, (_changed(one) for one in found.changes())  # fmt: skip


def complain(found: Compared) -> None:
    """What could not be read, on stderr."""
    if found.problem_count:
        shown = [f"{text.printable(one.path)}: {one.reason}" for one in found.problems[:_SHOWN]]
        more = [f"and {found.problem_count - len(shown):,} more"] if found.problem_count > len(shown) else []
        entries = text.count(found.problem_count, "entry", "entries")
        console.complain(f"{found.resource}: {entries} could not be read and compared", "\n".join([*shown, *more]))


_SUMS = {"added": "added", "removed": "removed", "content": "with other content", "attributes": "with other attributes"}


def _compared(found: Compared, now: datetime) -> str:
    only = f", only {text.printable(found.path)}" if found.path else ""
    return f"{found.resource}: from {_side(found.before, now)} to {_side(found.after, now)}{only}"


def _sums(found: Compared) -> str:
    """How much there is of each kind; what was only renamed is neither added nor removed."""
    moved, size = sum(one.entries for one in found.renamed), sum(one.bytes for one in found.renamed)
    parts = [f"{text.count(len(found.renamed), 'folder')} renamed{_size(size)}"] if found.renamed else []
    for name, word in _SUMS.items():
        away = (moved, size) if name in ("added", "removed") else (0, 0)
        parts.append(f"{found.counts[name] - away[0]:,} {word}{_size(found.bytes[name] - away[1])}")
    return f"{', '.join(parts)}; {text.count(found.same, 'entry', 'entries')} the same"


def _folder(found: Compared, path: str, *, is_folder: bool) -> str:
    """The folder just below what is compared in which a path lies; "./" for what lies there itself."""
    below = path.removeprefix(found.path).lstrip("/") if found.path else path
    first, slash, _ = below.partition("/")
    return f"{first}/" if slash or (is_folder and first not in ("", ".")) else "./"


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _growth(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{text.size(abs(size))}" if size else "-"


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
    parts = [" -> ".join(dict.fromkeys(sizes))] if sizes and one.change != "attributes" else []
    parts += [what for what in one.what if what != "content"]
    return f" ({', '.join(parts)})" if parts else ""


def _size(size: int) -> str:
    return f" ({text.size(size)})" if size else ""


def _changed(one: Changed) -> dict[str, Any]:
    is_file = one.letter == "f"
    return {
        "path": one.path, "type": KINDS[one.letter.encode()], "change": one.change, "what": list(one.what),
        "size_before": one.before if is_file else None, "size_after": one.after if is_file else None,
    }  # fmt: skip
