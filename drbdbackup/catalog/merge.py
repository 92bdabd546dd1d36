"""Taking in what another node published: a union of rows, after a look at each of them.

The file is one that anyone with the share in hand may have written, half written or damaged. It is opened read-only, as
it is (no journal of its own is played), with nothing in its schema trusted, and its schema must hold plain tables and
nothing that computes. One bad row and all of it is refused, with the reason: then older knowledge stands.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog.facts import COLUMNS, Fact, canonical, from_row, identity, is_node_name, moment, why_not
from drbdbackup.catalog.local import note, rows, uri, writing
from drbdbackup.catalog.publish import Content, by_id, digest_of
from drbdbackup.catalog.road import LARGEST
from drbdbackup.catalog.store import add
from drbdbackup.model.backup import iso

_SEEN = """
INSERT INTO seen (node, seen_at, road, content) VALUES (?, ?, ?, ?)
ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at, road = excluded.road, content = excluded.content
WHERE excluded.seen_at > seen_at
"""
_FETCHED = "INSERT OR REPLACE INTO fetched (road, name, stamp) VALUES (?, ?, ?)"
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_DEADLINE = 60.0  # seconds for SQLite to work on one file
_LONGEST_VALUE = 4 << 20
_MOST_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of one file: `new` facts came from `node`'s catalog, or it was `refused` for that reason."""

    file: str
    node: str = ""
    new: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Read:
    """A catalog that was found good: its line of meta, and the rows that are not known here."""

    meta: Mapping[str, Any]
    unknown: Sequence[Mapping[str, Any]]


class _Refused(Exception):
    """The file is not a catalog that may be taken in; says why."""


def merge(state_dir: str, file: str, road: str, now: datetime | None = None) -> Merged:
    """Take the facts of a published catalog into this node's own, all of them or none.

    `file` lies on a local disk (see `road.fetch`). A file that is not good is refused in the answer, not raised;
    CatalogError is for this node's own catalog alone. `seen` is never later than `now` (this moment).
    """
    known = {str(row[0]) for row in rows(state_dir, "SELECT id FROM fact")}
    last = rows(state_dir, "SELECT content FROM seen ORDER BY node")
    try:
        read = _read(file, known, {str(row[0]) for row in last})
    except _Refused as refused:
        return Merged(file, refused=str(refused))
    node = str(read.meta["node"])
    published_at = moment(read.meta["published_at"]) or datetime.min.replace(tzinfo=UTC)
    sight = (node, iso(min(published_at, now or datetime.now(UTC))), road, read.meta["content"])
    if not read.unknown:
        note(state_dir, _SEEN, [sight])
        return Merged(file, node)
    with writing(state_dir) as db:
        new = add(db, read.unknown)
        db.conn.execute(_SEEN, sight)
    return Merged(file, node, new)


def take_in(
    state_dir: str, road: str, folder: str, fetched: Mapping[str, Sequence[int]], now: datetime | None = None
) -> list[Merged]:
    """Merge what `road.fetch` copied into `folder`. The good ones are not fetched again until they change."""
    merged = [merge(state_dir, os.path.join(folder, name), road, now) for name in fetched]
    good = {name: stamp for (name, stamp), one in zip(fetched.items(), merged, strict=True) if not one.refused}
    remember(state_dir, road, good)
    return merged


def remember(state_dir: str, road: str, stamps: Mapping[str, Sequence[int]]) -> None:
    """Note the stamps of files on a road whose content is known here: those taken in, and the one that we put there."""
    if stamps:
        note(state_dir, _FETCHED, [(road, name, canonical(list(stamp))) for name, stamp in stamps.items()])


def published(file: str) -> tuple[str, datetime] | None:
    """Which node published a catalog, and when by its own clock; None for a file that is not good. Never raises."""
    with suppress(_Refused, sqlite3.Error, ValueError), _opened(file) as connection:
        _check_schema(connection)
        meta = _meta(connection)
        at = moment(meta["published_at"])
        return (meta["node"], at) if at is not None else None
    return None


def salvage(file: str) -> list[Fact]:
    """Whatever genuine facts can still be read from a catalog that `store.set_aside` put aside; never raises for it."""
    found: list[Fact] = []
    with suppress(_Refused, sqlite3.Error), _opened(file) as connection:
        answer = connection.execute("SELECT id, node, at, kind, resource, subject, body FROM fact")
        found.extend(from_row(row) for row in answer if not why_not(row))
    return found


def _read(file: str, known: set[str], contents: set[str]) -> _Read:
    """Read and check a published catalog, or raise _Refused. Rows that were all taken in before are not read again."""
    try:
        with _opened(file) as connection:
            _check_schema(connection)
            if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                raise _Refused("it is damaged (integrity check)")
            meta = _meta(connection)
            return _Read(meta, () if meta["content"] in contents else _unknown_rows(connection, meta, known))
    except (sqlite3.Error, UnicodeError, ValueError, OverflowError) as error:
        raise _Refused(f"it cannot be read as a catalog ({error})") from None


@contextmanager
def _opened(file: str) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing, trusts nothing in the file, and gives up after a while."""
    try:
        status = os.lstat(file)
    except OSError as error:
        raise _Refused(f"it cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        raise _Refused("it is not a plain file of a catalog's size")
    where = uri(file, "mode=ro&immutable=1")
    with closing(sqlite3.connect(where, uri=True, isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}")
        end = time.monotonic() + _DEADLINE
        connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        yield connection


def _check_schema(connection: sqlite3.Connection) -> None:
    """Plain tables and their indexes only: no view, trigger, virtual table or generated column gets to compute."""
    for kind, name, root in connection.execute("SELECT type, name, rootpage FROM sqlite_master"):
        if kind not in ("table", "index") or not root:
            raise _Refused(f"it holds a {kind} ({name!r}) that no catalog has")
    for table in ("fact", "meta"):
        columns = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        if not columns:
            raise _Refused(f"it has no table {table}")
        if len(columns) > _MOST_COLUMNS or any(hidden for *_, hidden in columns):
            raise _Refused(f"its table {table} is not a catalog's")
        if table == "fact" and not _are_columns({str(column[1]) for column in columns}):
            raise _Refused("its table fact has not a catalog's columns")


def _are_columns(names: set[str]) -> bool:
    """All of ours; those of a newer version have plain names too."""
    return names >= set(COLUMNS) and all(_COLUMN.match(name) for name in names)


def _meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """The line that vouches for the file; a newer version's may say more."""
    cursor = connection.execute("SELECT * FROM meta LIMIT 2")
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    if len(found) != 1 or not {"node", "published_at", "rows", "content", "digest"} <= set(found[0]):
        raise _Refused("nothing in it says who published it")
    meta = found[0]
    if not isinstance(meta["node"], str) or not is_node_name(meta["node"]) or moment(meta["published_at"]) is None:
        raise _Refused("nothing in it says who published it")
    if digest_of(meta) != meta["digest"]:
        raise _Refused("it is damaged (digest)")
    return meta


def _objection(row: tuple[Any, ...], known: set[str]) -> str:
    """As `why_not`; one with a known id and that id's content was looked at when it came first."""
    is_known = row[0] in known and all(isinstance(value, str) for value in row)
    return "" if is_known and identity(*row[1:]) == row[0] else why_not(row)


def _unknown_rows(connection: sqlite3.Connection, meta: Mapping[str, Any], known: set[str]) -> list[Mapping[str, Any]]:
    """All rows checked, those returned that are not known."""
    content = Content()
    unknown: list[Mapping[str, Any]] = []
    for row in by_id(connection):
        reason = _objection(tuple(row[name] for name in COLUMNS), known)
        if reason or not all(isinstance(value, (str, int, float, type(None))) for value in row.values()):
            raise _Refused(f"it holds what is no fact ({reason or 'a value of another type'})")
        content.add(row)
        if row["id"] not in known:
            unknown.append(row)
    if content.count != meta["rows"] or content.digest() != meta["content"]:
        raise _Refused("it is damaged (digest of its rows)")
    return unknown
