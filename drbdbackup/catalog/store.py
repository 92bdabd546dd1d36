"""Writing the node's own catalog: facts are added, never changed and never taken away.

Every call is one transaction that is on the disk when it returns; a kill -9 or a power cut leaves what was there
before. Concurrent writers wait for one another.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from drbdbackup import durable
from drbdbackup.catalog import copy_summary
from drbdbackup.catalog.facts import COLUMNS, FACTS, SIGNATURE, Fact, as_row, to_sign, why_invalid
from drbdbackup.catalog.folders import path_of
from drbdbackup.catalog.local import explained, tables, writing
from drbdbackup.catalog.signatures import OwnKey, own_key
from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import iso

MOST_COLUMNS = 32  # of the table `fact`: what has more is no catalog
_ADD = """
INSERT OR IGNORE INTO fact (id, node, at, kind, resource, subject, body, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_KEEP_SIGNATURE = "UPDATE fact SET signature = ? WHERE id = ? AND signature IS NULL"
_UNSIGNED = f"{FACTS} WHERE node = ? AND signature IS NULL"


def record(state_dir: str, node: str, facts: Iterable[Fact]) -> int:
    """Add facts of this node, signed, all or none, durably; how many were new.

    Raises CatalogError if the database is damaged or foreign, or a fact is not this node's own.
    """
    rows = [as_row(fact) for fact in facts]
    for row in rows:
        reason = why_invalid(row) or ("" if row[1] == node else f"it is {row[1]}'s, not {node}'s")
        if reason:
            raise CatalogError(f"a fact about {row[5]!r} cannot be recorded: {reason}")
    key = own_key(state_dir, node)
    with writing(state_dir) as connection:
        return add(connection, [
            {**dict(zip(COLUMNS, row, strict=True)), SIGNATURE: key.sign(to_sign(*row[1:]))} for row in rows
        ])  # fmt: skip


def add(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add checked rows inside an open transaction; how many were new. Columns of a newer version are kept."""
    columns = {name for row in rows for name in row}
    before = connection.total_changes
    if columns <= {*COLUMNS, SIGNATURE}:
        connection.executemany(_ADD, [[row.get(name) for name in (*COLUMNS, SIGNATURE)] for row in rows])
    else:
        known = {str(column[1]) for column in connection.execute("PRAGMA table_info(fact)")}
        kept = columns if len(known | columns) <= MOST_COLUMNS else known
        whole = ({name: row.get(name) for name in sorted(kept)} for row in rows)
        tables(connection).table("fact").insert_all(whole, ignore=True, alter=True)
    new = connection.total_changes - before
    signed = [(row[SIGNATURE], row["id"]) for row in rows if row.get(SIGNATURE)]
    connection.executemany(_KEEP_SIGNATURE, signed)  # one that was known without it, from an older version
    copy_summary.add(connection, rows)
    return new


def sign_own(connection: sqlite3.Connection, node: str, key: OwnKey) -> None:
    """Sign what an older version has recorded here, inside an open transaction. By a road comes only what is signed."""
    new = connection.execute(_UNSIGNED, (node,)).fetchall()
    connection.executemany(_KEEP_SIGNATURE, [(key.sign(to_sign(*row[1:])), row[0]) for row in new])


def note_reported(state_dir: str, resource: str, due_at: datetime, message: str) -> None:
    """Remember that `message` was reported for this due time (see `view.was_reported`); older ones are forgotten."""
    with writing(state_dir) as connection:
        connection.execute("DELETE FROM told WHERE resource = ? AND due_at <> ?", (resource, iso(due_at)))
        row = (resource, iso(due_at), message)
        connection.execute("INSERT OR IGNORE INTO told (resource, due_at, message) VALUES (?, ?, ?)", row)


def forget_unsigned(state_dir: str, node: str) -> None:
    """Forget what is known of a node without its signature, and which catalogs were taken in; see `forget_fetched`."""
    with writing(state_dir) as connection:
        connection.execute("DELETE FROM fact WHERE node = ? AND signature IS NULL", (node,))
        copy_summary.rebuild(connection)
    forget_fetched(state_dir)


def forget_all(state_dir: str, node: str) -> None:
    """Forget all facts of a node. What was signed with a key that is not its key any more does not come back."""
    with writing(state_dir) as connection:
        connection.execute("DELETE FROM fact WHERE node = ?", (node,))
        copy_summary.rebuild(connection)


def forget_fetched(state_dir: str) -> None:
    """Forget which catalogs were taken in, so that all that lie on a road are read again."""
    with writing(state_dir) as connection:
        connection.execute("DELETE FROM fetched")
        connection.execute("UPDATE seen SET content = ''")


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
        durable.sync_folder(state_dir)
    return aside
