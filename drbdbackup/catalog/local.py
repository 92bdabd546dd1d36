"""The node's own database, `<state_dir>/catalog.db`: where it is, how it is opened, and what its errors mean.

Once it is made, reading and writing need the standard library only: sqlite-utils costs as much processor as all else
that a stand-down does. It is opened for reading in a mode that may write: after a kill -9 SQLite must roll back the
unfinished transaction before anyone can read. It is opened here and nowhere else,
always on a local disk and always with a rollback journal: synchronous EXTRA makes a commit survive a power cut.

A night asks it a hundred times, and to open it costs as much as ten answers: what was opened for reading is kept, and
so is what was made of the answers, for as long as nobody has changed anything.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from drbdbackup.catalog import copy_summary
from drbdbackup.catalog.facts import COLUMNS, SIGNATURE
from drbdbackup.catalog.folders import hint_of, path_of, private_folder
from drbdbackup.errors import CatalogError, hint_for

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA = 2
_FIRST_SCHEMA = 1  # without signatures
BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another
_MOST_MADE = 32  # values
_Made = TypeVar("_Made")
REBUILD = "Run `drbdbackup sync --rebuild`: it sets the file aside and gathers what the media and the other nodes know."


class _Reader(Struct, frozen=True):
    """A connection that only reads, to the file `inode` (device and number). `serial` is no other one's."""

    inode: tuple[int, int]
    connection: sqlite3.Connection
    serial: int


_SERIALS = count()
_idle: list[_Reader] = []  # nobody uses them now; whoever takes one has it alone, in whichever thread
_of_parent: list[_Reader] = []  # never closed here: by its number, that would be another file of ours
_made: dict[Hashable, tuple[tuple[int, int, Hashable], Any]] = {}  # by what it is: of which state, and the value


def _forget_parents() -> None:
    """In a process that was forked: a connection is its parent's."""
    _of_parent.extend(_idle)
    _idle.clear()


os.register_at_fork(after_in_child=_forget_parents)


def close() -> None:
    """Close the connections that are kept. Until then the file system of the catalog cannot be unmounted."""
    while _idle:
        _idle.pop().connection.close()


def rows(state_dir: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a query answers; nothing if there is no catalog yet.

    Raises CatalogError for a damaged or foreign one, and for one that may not be looked at: that is not an empty one.
    """
    path = path_of(state_dir)
    with explained(path), _reading(path) as reader:
        return reader.connection.execute(sql, values).fetchall() if reader is not None else []


def once(state_dir: str, what: Hashable, as_of: Hashable, make: Callable[[], _Made]) -> _Made:
    """What `make` makes of the catalog alone, which is called `what`: made anew only where the catalog has changed, or
    `as_of`, which may be a time. Of each `what` the last value is kept.
    """
    path = path_of(state_dir)
    with explained(path), _reading(path) as reader:
        if reader is None:
            return make()
        version = int(reader.connection.execute("PRAGMA data_version").fetchone()[0])
    state = reader.serial, version, as_of
    known = _made.pop((path, what), None)
    # What is taken in while it is made changes the state: then it is made again the next time.
    value: _Made = known[1] if known is not None and known[0] == state else make()
    _made[path, what] = state, value
    while len(_made) > _MOST_MADE:
        _made.pop(next(iter(_made)), None)
    return value


@contextmanager
def _reading(path: str) -> Iterator[_Reader | None]:
    """A connection for reading, for the time of the block; None if there is no catalog yet."""
    inode = _inode(path)
    if inode is None:
        yield None
        return
    reader = _taken(inode) or _opened(path, inode)
    if reader is None:
        yield None
        return
    try:
        yield reader
    except BaseException:
        reader.connection.close()
        raise
    _idle.append(reader)


def _opened(path: str, inode: tuple[int, int]) -> _Reader | None:
    """A new one; None if there is no schema yet."""
    connection = connect(path)
    try:
        connection.execute("PRAGMA query_only = ON")
        if is_begun(connection, path):
            return _Reader(inode, connection, next(_SERIALS))
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _taken(inode: tuple[int, int]) -> _Reader | None:
    """One that is kept, the newest first. What is of another file goes: it was set aside, or is not asked any more."""
    while True:
        try:
            found = _idle.pop()
        except IndexError:
            return None
        if found.inode == inode:
            return found
        found.connection.close()


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
    where = uri(path, "mode=rw")
    return sqlite3.connect(where, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def uri(path: str, parameters: str) -> str:
    """The name that SQLite opens with parameters; whatever the path holds is only a path."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?{parameters}"


def is_begun(connection: sqlite3.Connection, path: str) -> bool:
    """Whether a schema is there, older, ours or newer. CatalogError for another program's database."""
    if _version(connection) >= _FIRST_SCHEMA:
        return True
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    # Again, after the tables: another process may have made it just now, both in one transaction.
    if _version(connection) >= _FIRST_SCHEMA:
        return True
    if tables:
        raise CatalogError(f"{path} is not a catalog of drbdbackup", REBUILD)
    return False


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Raises CatalogError, which says what to do, for what SQLite or the disk says of the catalog at `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogError(*_explanation(path, error)) from error
    except OSError as error:
        where = os.fsdecode(error.filename2 or error.filename or path)
        raise CatalogError(f"{where}: {error.strerror}", hint_of(error)) from error


def _inode(path: str) -> tuple[int, int] | None:
    """The device and the number of the file; None if there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return found.st_dev, found.st_ino


def _explanation(path: str, error: sqlite3.Error) -> tuple[str, str]:
    message = f"{path}: {error}"
    match getattr(error, "sqlite_errorname", "").split("_")[1:2]:
        case ["BUSY"] | ["LOCKED"]:
            return message, f"Another drbdbackup has been writing to it for {BUSY_TIMEOUT:g} s; does one hang?"
        case ["FULL"]:
            return message, "Free some space on the disk that holds state_dir."
        case ["CANTOPEN"] | ["READONLY"] | ["PERM"] | ["IOERR"] | ["AUTH"]:
            healthy = f"Is state_dir on a healthy local disk, and is this run as root? If it is: {REBUILD}"
            return message, hint_for(_refused()) or healthy
        case _:
            return message, REBUILD


def _refused() -> int | None:
    """Which error of the system SQLite has met, as far as it can be known: it does not say. It may be a limit of ours.

    The catalog itself is not opened for that: closing it would drop SQLite's locks.
    """
    from drbdbackup import plain_file

    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return errno.EFBIG if plain_file.is_size_limited() else None


def _prepare(state_dir: str) -> None:
    """The folder (0700) and an empty file (0600); one that exists is left alone: closing it drops SQLite's locks."""
    private_folder(state_dir)
    with suppress(FileExistsError):
        os.close(os.open(path_of(state_dir), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older version's catalog to this schema. An older program still reads it, and passes signatures on."""
    if _version(connection) < SCHEMA:
        if SIGNATURE not in {row[1] for row in connection.execute("PRAGMA table_info(fact)")}:
            connection.execute(f"ALTER TABLE fact ADD COLUMN {SIGNATURE} TEXT")
        copy_summary.undo_pruned(connection)  # it kept such facts, and did not know what they say
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
