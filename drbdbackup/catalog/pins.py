"""Snapshots that were pinned, and notes on them: facts of any node, about every copy of a snapshot wherever it lies.

A pin holds until it is taken back by name: clocks differ and facts come in any order, so an `unpinned` fact names the
pins that it takes back, and one that it does not name still holds. In doubt a snapshot stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from msgspec import Struct

from drbdbackup.catalog.bodies import taken_back
from drbdbackup.catalog.facts import NOTED, PINNED, UNPINNED, Fact, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.errors import UsageError

LONGEST_NOTE = 200  # letters
_LABELS = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind IN ('pinned', 'unpinned', 'noted') AND resource = ? ORDER BY at, id
"""


class Label(Struct, frozen=True):
    """What people have said of a snapshot: since when it is pinned (None if it is not), by which facts, and a note."""

    pinned_at: datetime | None = None
    pins: frozenset[str] = frozenset()
    note: str = ""


NO_LABEL = Label()


def pinned(node: str, at: datetime, resource: str, snapshot: str, note: str) -> Fact:
    """The fact that no copy of a snapshot is to be pruned any more; `note` says why, "" for nothing."""
    return fact(node, at, PINNED, resource, snapshot, {"note": note})


def unpinned(node: str, at: datetime, resource: str, snapshot: str, after: Collection[str]) -> Fact:
    """The fact that the pins with these ids hold no longer."""
    return fact(node, at, UNPINNED, resource, snapshot, {"after": sorted(after)})


def noted(node: str, at: datetime, resource: str, snapshot: str, note: str) -> Fact:
    """The fact that somebody has said something about a snapshot."""
    return fact(node, at, NOTED, resource, snapshot, {"note": note})


def checked_note(text: str) -> str:
    """The text without blanks around it. Raises UsageError for one that is too long, or no single line."""
    note = text.strip()
    if len(note) > LONGEST_NOTE or not note.isprintable():
        raise UsageError("--note is not a note", f"Allowed: one line of at most {LONGEST_NOTE} letters.")
    return note


def labels(state_dir: str, resource: str) -> dict[str, Label]:
    """The labels of a resource's snapshots, by name; those that have none are not in it."""
    said = readable(rows(state_dir, _LABELS, (resource,)), lambda one: one)
    by_snapshot: dict[str, list[Fact]] = {}
    for one in said:
        by_snapshot.setdefault(one.subject, []).append(one)
    return {snapshot: _label(about) for snapshot, about in by_snapshot.items()}


def _label(about: Iterable[Fact]) -> Label:
    """What facts about one snapshot say together, the oldest first: the newest note that is not empty is the one."""
    about = list(about)
    gone = frozenset(ident for one in about if one.kind == UNPINNED for ident in taken_back(one))
    held = [one for one in about if one.kind == PINNED and one.id not in gone]
    told = [_note(one) for one in about if one.kind == NOTED or one in held]
    times = [at for one in held if (at := moment(one.at)) is not None]
    return Label(min(times, default=None), frozenset(one.id for one in held), next(filter(None, reversed(told)), ""))


def _note(said: Fact) -> str:
    note = said.body.get("note")
    return note[:LONGEST_NOTE] if isinstance(note, str) else ""
