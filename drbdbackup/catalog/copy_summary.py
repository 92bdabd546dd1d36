"""The summary of all copies, in the table `standing`: of each its highest sequence, and whether it is pruned.

With it few facts have to be read. It follows from the facts, whatever the order in which they come, and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from drbdbackup.catalog.authority import vouches
from drbdbackup.catalog.bodies import is_count, taken_back
from drbdbackup.catalog.facts import COLUMNS, COPY, FACTS, FOUND, PRUNED, from_columns, readable

_SUMMARISED = f"{FACTS} WHERE kind IN ('copy', 'pruned')"
_ADD = """
INSERT INTO standing (subject, resource, sequence, pruned) VALUES (?, ?, ?, ?)
ON CONFLICT (subject) DO UPDATE SET sequence = max(sequence, excluded.sequence), pruned = max(pruned, excluded.pruned)
"""
_FOUND = f"{FACTS} WHERE kind = 'found'"
_PRUNED = "SELECT id FROM fact WHERE subject = ? AND kind = 'pruned'"
_SET_PRUNED = "UPDATE standing SET pruned = ? WHERE subject = ?"


def add(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add checked rows of the table `fact` to the summary, inside an open transaction."""
    connection.executemany(_ADD, [_summary_row(row) for row in rows if row["kind"] in (COPY, PRUNED)])
    if subjects := {row["subject"] for row in rows if row["kind"] in (PRUNED, FOUND)}:
        undo_pruned(connection, subjects)


def rebuild(connection: sqlite3.Connection) -> None:
    """Make the summary anew from all facts that are known."""
    connection.execute("DELETE FROM standing")
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(_SUMMARISED)]
    add(connection, rows)


def undo_pruned(connection: sqlite3.Connection, subjects: Collection[str] | None = None) -> None:
    """Of these copies (None: of all), those are not pruned any more of which each `pruned` fact is taken back."""
    after: dict[str, frozenset[str]] = {}
    for fact in readable(connection.execute(_FOUND), lambda one: one):
        if subjects is None or fact.subject in subjects:
            after[fact.subject] = after.get(fact.subject, frozenset()) | taken_back(fact)
    for subject, ids in after.items():
        pruned_ids = {row[0] for row in connection.execute(_PRUNED, (subject,))}
        connection.execute(_SET_PRUNED, (int(not pruned_ids <= ids), subject))


def _summary_row(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """The row of the summary that follows from one `copy` or `pruned` fact.

    An impossible sequence counts as 0, and so does that of a copy for which nobody vouches: the next snapshot comes
    after it.
    """
    fact = from_columns(row)
    sequence = fact.body.get("sequence", 0) if fact.kind == COPY and vouches(fact) else 0
    return fact.subject, fact.resource, sequence if is_count(sequence) else 0, int(fact.kind == PRUNED)
