"""The node's own database, `<state_dir>/catalog.db`: where it is, how it is opened, and what its errors mean.

Once it is made, reading and writing need the standard library only: sqlite-utils costs as much processor as all else
that a stand-down does. It is opened for reading in a mode that may write: after a kill -9 SQLite must roll back the
unfinished transaction before anyone can read. It is opened here and nowhere else,
always on a local disk and always with a rollback journal: synchronous EXTRA makes a commit survive a power cut.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from drbdbackup.catalog import copy_summary
from drbdbackup.catalog.facts import COLUMNS, SIGNATURE
from drbdbackup.catalog.folders import hint_of, path_of, private_folder
from drbdbackup.errors import CatalogError

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA = 2
_FIRST_SCHEMA = 1  # without signatures
PATIENCE = 30.0  # seconds that a writer waits for another
REBUILD = "Run `drbdbackup sync --rebuild`: it sets the file aside and gathers what the media and the other nodes know."


def rows(state_dir: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a query answers; nothing if there is no catalog yet.

    Raises CatalogError for a damaged or foreign one, and for one that may not be looked at: that is not an empty one.
    """
    path = path_of(state_dir)
    with explained(path):
        if not _is_there(path):
            return []
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(sql, values).fetchall() if is_begun(connection, path) else []


def note(state_dir: str, sql: str, values: Sequence[Sequence[Any]]) -> None:
    """Change what only this node needs (seen, fetched)."""
    make_ready(state_dir)
    path = path_of(state_dir)
    with explained(path), closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(sql, values)
        connection.execute("COMMIT")


def make_ready(state_dir: str) -> None:
    """Make the catalog if it is not there, or bring an older version's to this schema."""
    version = rows(state_dir, "PRAGMA user_version")
    if not version or version[0][0] < SCHEMA:
        with writing(state_dir):
            pass


@contextmanager
def writing(state_dir: str) -> Iterator[sqlite3.Connection]:
    """The catalog inside one transaction, made if it is not there; all of it is kept, durably, or nothing."""
    path = path_of(state_dir)
    with explained(path):
        _prepare(state_dir)
        with closing(connect(path)) as connection:
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            if not is_begun(connection, path):
                _begin(tables(connection))
            _upgrade(connection)
            connection.execute("SELECT id, node, at, kind, resource, subject, body, signature FROM fact LIMIT 0")
            yield connection
            connection.execute("COMMIT")  # closing without it rolls back


def tables(connection: sqlite3.Connection) -> Database:
    """The same connection with what sqlite-utils can do: make and alter tables. It is loaded here and nowhere else."""
    from sqlite_utils import Database

    return Database(connection, execute_plugins=False, recursive_triggers=False)


def connect(path: str) -> sqlite3.Connection:
    """An open connection to a file that exists, with transactions in our own hands."""
    return sqlite3.connect(uri(path, "mode=rw"), uri=True, timeout=PATIENCE, isolation_level=None)


def uri(path: str, parameters: str) -> str:
    """The name that SQLite opens with parameters; whatever the path holds is only a path."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{parameters}"


def is_begun(connection: sqlite3.Connection, path: str) -> bool:
    """Whether a schema is there, older, ours or newer. CatalogError for another program's database."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    # After the tables: another process may be making it just now, both in one transaction.
    if connection.execute("PRAGMA user_version").fetchone()[0] >= _FIRST_SCHEMA:
        return True
    if tables:
        raise CatalogError(f"{path} is not a catalog of drbdbackup", REBUILD)
    return False


@contextmanager
def explained(path: str) -> Iterator[None]:
    """What SQLite or the disk says of the catalog becomes an error that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogError(*_explanation(path, error)) from error
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror}", hint_of(error)) from error


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return True


def _explanation(path: str, error: sqlite3.Error) -> tuple[str, str]:
    said = f"{path}: {error}"
    match getattr(error, "sqlite_errorname", "").split("_")[1:2]:
        case ["BUSY"] | ["LOCKED"]:
            return said, f"Another drbdbackup has been writing to it for {PATIENCE:g} s; does one hang?"
        case ["FULL"]:
            return said, "Free some space on the disk that holds state_dir."
        case ["CANTOPEN"] | ["READONLY"] | ["PERM"] | ["IOERR"] | ["AUTH"]:
            return said, f"Is state_dir on a healthy local disk, and is this run as root? If it is: {REBUILD}"
        case _:
            return said, REBUILD


def _prepare(state_dir: str) -> None:
    """The folder (0700) and an empty file (0600); one that exists is left alone: closing it drops SQLite's locks."""
    private_folder(state_dir)
    with suppress(FileExistsError):
        os.close(os.open(path_of(state_dir), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older version's catalog to this schema. An older program still reads it, and passes signatures on."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA:
        if SIGNATURE not in {row[1] for row in connection.execute("PRAGMA table_info(fact)")}:
            connection.execute(f"ALTER TABLE fact ADD COLUMN {SIGNATURE} TEXT")
        copy_summary.take_back(connection)  # it kept such facts, and did not know what they say
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _begin(db: Database) -> None:
    """The schema. `standing` and what follows are this node's own; `standing` sums up what copies there are.

    It is a join of what facts say (largest sequence, pruned and not taken back), so the order in which they come does
    not matter.
    """
    db.table("fact").create(dict.fromkeys((*COLUMNS, SIGNATURE), str), pk="id", not_null=set(COLUMNS))
    db.table("fact").create_index(["kind", "resource", "at"])
    db.table("fact").create_index(["subject", "kind"])
    db.table("standing").create(
        {"subject": str, "resource": str, "sequence": int, "pruned": int}, pk="subject", not_null={"resource"}
    )
    db.table("standing").create_index(["resource", "pruned"])
    db.table("standing").create_index(["resource", "sequence"])
    db.table("seen").create({"node": str, "seen_at": str, "road": str, "content": str}, pk="node")
    db.table("fetched").create({"road": str, "name": str, "stamp": str}, pk=("road", "name"))
    db.table("told").create({"resource": str, "due_at": str, "message": str}, pk=("resource", "due_at", "message"))
    db.conn.execute(f"PRAGMA user_version = {SCHEMA}")
