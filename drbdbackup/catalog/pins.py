"""Snapshots that were pinned, and notes on them: facts of any node, about every copy of a snapshot wherever it lies.

A pin holds until it is taken back by name: clocks differ and facts come in any order, so an `unpinned` fact names the
pins that it takes back, and one that it does not name still holds. In doubt a snapshot stays.

A node takes back its own pins, and here this node's admin those of any: another node's word does not end a pin. Nor do
its pins fill a medium without end: of what it has pinned a bounded number counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog.bodies import taken_back
from drbdbackup.catalog.facts import FACTS, NOTED, PINNED, UNPINNED, Fact, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.errors import UsageError

LONGEST_NOTE = 200  # letters
MOST_PINNED = 20  # snapshots of a resource that are there and that one node has pinned
_LABELS = f"{FACTS} WHERE kind IN ('pinned', 'unpinned', 'noted') AND resource = ? ORDER BY at, id"


class Label(Struct, frozen=True):
    """What people have noted on a snapshot: the pins that hold, the oldest first, and a note."""

    pins: tuple[Fact, ...] = ()
    note: str = ""

    @property
    def pinned_at(self) -> datetime | None:
        """Since when it is pinned; None if it is not."""
        return min((at for one in self.pins if (at := moment(one.at)) is not None), default=None)

    @property
    def pinned_by(self) -> frozenset[str]:
        """The nodes whose pins hold."""
        return frozenset(one.node for one in self.pins)


NO_LABEL = Label()


def pinned(node: str, at: datetime, resource: str, snapshot: str, note: str) -> Fact:
    """The fact that no copy of a snapshot is to be pruned any more; `note` says why, "" for nothing."""
    return fact(node, at, PINNED, resource, snapshot, {"note": note})


def unpinned(node: str, at: datetime, resource: str, snapshot: str, after: Collection[str]) -> Fact:
    """The fact that the pins with these ids hold no longer."""
    return fact(node, at, UNPINNED, resource, snapshot, {"after": sorted(after)})


def noted(node: str, at: datetime, resource: str, snapshot: str, note: str) -> Fact:
    """The fact that somebody has put a note on a snapshot."""
    return fact(node, at, NOTED, resource, snapshot, {"note": note})


def checked_note(text: str) -> str:
    """The text without blanks around it. Raises UsageError for one that is too long, or no single line."""
    note = text.strip()
    if len(note) > LONGEST_NOTE or not note.isprintable():
        raise UsageError("--note is not a note", f"Allowed: one line of at most {LONGEST_NOTE} letters.")
    return note


def labels(state_dir: str, own: str, resource: str) -> dict[str, Label]:
    """The labels of a resource's snapshots at the node `own`, by name; those that have none are not in it."""
    facts = readable(rows(state_dir, _LABELS, (resource,)), lambda one: one)
    by_snapshot: dict[str, list[Fact]] = {}
    for one in facts:
        by_snapshot.setdefault(one.subject, []).append(one)
    return {snapshot: _label(about, own) for snapshot, about in by_snapshot.items()}


def bounded(found: Mapping[str, Label], own: str, there: Collection[str]) -> dict[str, Label]:
    """The labels of the snapshots that are `there`. Of those that another node has pinned, the first ones are."""
    every = sorted((pin.at, name, pin.node) for name in there for pin in found.get(name, NO_LABEL).pins)
    counted: dict[str, set[str]] = {}
    for _, name, node in every:
        of_node = counted.setdefault(node, set())
        if node == own or len(of_node) < MOST_PINNED:
            of_node.add(name)
    return {
        name: replace(label, pins=tuple(pin for pin in label.pins if name in counted[pin.node]))
        for name in there if (label := found.get(name)) is not None
    }  # fmt: skip


def _label(about: Iterable[Fact], own: str) -> Label:
    """What facts about one snapshot say together, the oldest first: the newest note that is not empty is the one."""
    about = list(about)
    gone = {(one.node, ident) for one in about if one.kind == UNPINNED for ident in taken_back(one)}
    held = [one for one in about if one.kind == PINNED and not {(one.node, one.id), (own, one.id)} & gone]
    notes = [_note(one) for one in about if one.kind == NOTED or one in held]
    return Label(tuple(held), next(filter(None, reversed(notes)), ""))


def _note(fact: Fact) -> str:
    note = fact.body.get("note")
    return note[:LONGEST_NOTE] if isinstance(note, str) else ""
