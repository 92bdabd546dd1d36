"""The table `standing`: of each copy the highest sequence, and whether it is gone, so that few facts have to be read.

It is a sum of what facts say, whatever the order in which they come, and must never say anything else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from drbdbackup.catalog.authority import vouches
from drbdbackup.catalog.bodies import is_count, taken_back
from drbdbackup.catalog.facts import COLUMNS, COPY, FOUND, PRUNED, from_row, readable

_TO_STAND = "SELECT id, node, at, kind, resource, subject, body FROM fact WHERE kind IN ('copy', 'pruned')"
_STAND = """
INSERT INTO standing (subject, resource, sequence, pruned) VALUES (?, ?, ?, ?)
ON CONFLICT (subject) DO UPDATE SET sequence = max(sequence, excluded.sequence), pruned = max(pruned, excluded.pruned)
"""
_FOUND = "SELECT id, node, at, kind, resource, subject, body FROM fact WHERE kind = 'found'"
_PRUNED = "SELECT id FROM fact WHERE subject = ? AND kind = 'pruned'"
_SETTLE = "UPDATE standing SET pruned = ? WHERE subject = ?"


def add(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Count in checked rows that are in the table `fact`, inside an open transaction."""
    connection.executemany(_STAND, [_standing(row) for row in rows if row["kind"] in (COPY, PRUNED)])
    if subjects := {row["subject"] for row in rows if row["kind"] in (PRUNED, FOUND)}:
        take_back(connection, subjects)


def sum_up(connection: sqlite3.Connection) -> None:
    """The same, anew, of all facts that are known."""
    connection.execute("DELETE FROM standing")
    told = [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(_TO_STAND)]
    add(connection, told)


def take_back(connection: sqlite3.Connection, subjects: Collection[str] | None = None) -> None:
    """Of these copies (None: of all), those stand again of which each fact that they were pruned is taken back."""
    after: dict[str, frozenset[str]] = {}
    for said in readable(connection.execute(_FOUND), lambda one: one):
        if subjects is None or said.subject in subjects:
            after[said.subject] = after.get(said.subject, frozenset()) | taken_back(said)
    for subject, ids in after.items():
        told = {row[0] for row in connection.execute(_PRUNED, (subject,))}
        connection.execute(_SETTLE, (int(not told <= ids), subject))


def _standing(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """What a copy or pruned fact says of its copy's standing.

    An impossible sequence counts as 0, and so does that of a copy for which nobody vouches: the next snapshot comes
    after it.
    """
    said = from_row(tuple(row[name] for name in COLUMNS))
    sequence = said.body.get("sequence", 0) if said.kind == COPY and vouches(said) else 0
    return said.subject, said.resource, sequence if is_count(sequence) else 0, int(said.kind == PRUNED)
