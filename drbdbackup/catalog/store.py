"""Writing the node's own catalog: facts are added, never changed and never taken away.

Every call is one transaction that is on the disk when it returns; a kill -9 or a power cut leaves what was there
before. Concurrent writers wait for one another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from drbdbackup.catalog.bodies import is_count
from drbdbackup.catalog.facts import COLUMNS, COPY, PRUNED, Fact, as_row, from_row, why_not
from drbdbackup.catalog.folders import path_of
from drbdbackup.catalog.local import explained, writing
from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import iso

if TYPE_CHECKING:
    from sqlite_utils import Database

_STAND = """
INSERT INTO standing (subject, resource, sequence, pruned) VALUES (?, ?, ?, ?)
ON CONFLICT (subject) DO UPDATE SET sequence = max(sequence, excluded.sequence), pruned = max(pruned, excluded.pruned)
"""


def warm_up() -> None:
    """Load what writing needs, for who has a moment to spare: it takes long from a cold disk."""
    import sqlite_utils.db  # noqa: F401


def record(state_dir: str, node: str, facts: Iterable[Fact]) -> int:
    """Add facts of this node, all or none, durably; how many were new.

    Raises CatalogError if the database is damaged or foreign, or a fact is not this node's own.
    """
    rows = [as_row(said) for said in facts]
    for row in rows:
        reason = why_not(row) or ("" if row[1] == node else f"it is {row[1]}'s, not {node}'s")
        if reason:
            raise CatalogError(f"a fact about {row[5]!r} cannot be recorded: {reason}")
    with writing(state_dir) as db:
        return add(db, [dict(zip(COLUMNS, row, strict=True)) for row in rows])


def add(db: Database, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add checked rows inside the transaction of `db`; how many were new. Columns of a newer version are kept."""
    if not rows:
        return 0
    columns = sorted({name for row in rows for name in row})
    before = db.conn.total_changes
    db.table("fact").insert_all(({name: row.get(name) for name in columns} for row in rows), ignore=True, alter=True)
    new = db.conn.total_changes - before
    db.conn.executemany(_STAND, [_standing(row) for row in rows if row["kind"] in (COPY, PRUNED)])
    return new


def tell(state_dir: str, resource: str, due_at: datetime, message: str) -> None:
    """Remember that `message` was told for this due time (see `view.was_told`); older due times are forgotten."""
    with writing(state_dir) as db:
        db.conn.execute("DELETE FROM told WHERE resource = ? AND due_at <> ?", (resource, iso(due_at)))
        row = {"resource": resource, "due_at": iso(due_at), "message": message}
        db.table("told").insert(row, ignore=True)


def set_aside(state_dir: str) -> str | None:
    """Rename a broken catalog to `catalog.db.broken-<time>` and return that, so that the next write starts anew.

    None if there is none. Its journal goes first: left behind, it would be played into the new one.
    """
    path = path_of(state_dir)
    aside = f"{path}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    with explained(path):
        for tail in ("-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.rename(path + tail, aside + tail)
        if not os.path.lexists(path):
            return None
        os.rename(path, aside)
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return aside


def _standing(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """What a copy or pruned fact says of its copy's standing. A sequence that cannot be is 0, the copy stays listed."""
    said = from_row(tuple(row[name] for name in COLUMNS))
    sequence = said.body.get("sequence", 0) if said.kind == COPY else 0
    return said.subject, said.resource, sequence if is_count(sequence) else 0, int(said.kind == PRUNED)
