"""A node's catalog as one file that may travel: consistent, complete, with a digest of what is in it, and signed.

SQLite's own integrity check says ok for a byte that flipped inside a row, so the file carries a digest of its own: of
the rows' ids (each the hash of its row), of what columns a newer version added, and of the line that says who
published it and when. Nothing is written over a network here: the file is made in the state folder.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog.facts import COLUMNS, canonical, identity
from drbdbackup.catalog.folders import path_of, private_folder, published_path
from drbdbackup.catalog.local import REBUILD, SCHEMA, connect, explained, writing
from drbdbackup.catalog.signatures import OwnKey, own_key
from drbdbackup.catalog.store import sign_own
from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import iso

_LOCAL_ONLY = "SELECT type, name FROM sqlite_master WHERE name <> 'fact' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

_META = """
CREATE TABLE meta (
    node TEXT, published_at TEXT, schema INTEGER, rows INTEGER, content TEXT, key TEXT, signature TEXT, digest TEXT
)
"""


class Content:
    """The digest over the rows of a catalog, fed in the order of their ids; `count` is their number."""

    def __init__(self) -> None:
        import hashlib

        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Feed one row whose id is known to be the hash of its columns. ValueError for a value that is none."""
        more = {name: value for name, value in row.items() if name not in COLUMNS and value is not None}
        self._hash.update((row["id"] + (canonical(more) if more else "") + "\n").encode())
        self.count += 1

    def digest(self) -> str:
        """What was fed, as hex digits."""
        return self._hash.hexdigest()


def publish(state_dir: str, node: str, now: datetime | None = None) -> str:
    """Write `<state_dir>/published/<node>.db` and return its path; `now` (this moment) is when others saw this node.

    Raises CatalogError if the catalog is damaged: what others would refuse is not sent.
    """
    key = own_key(state_dir, node)
    with writing(state_dir) as connection:
        sign_own(connection, node, key)
    final, path = published_path(state_dir, node), path_of(state_dir)
    draft = f"{final}.tmp-{os.urandom(4).hex()}"
    try:
        with explained(path):
            private_folder(os.path.dirname(final))
            with closing(connect(path)) as connection:
                connection.execute("PRAGMA synchronous = OFF")  # of the draft: nothing else is written here
                connection.execute("VACUUM INTO ?", (draft,))
            os.chmod(draft, 0o600)
            with closing(connect(draft)) as connection:
                _seal(connection, path, node, key, now or datetime.now(UTC))
            _rename_synced(draft, final)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    return final


def digest_of(meta: Mapping[str, Any]) -> str:
    """The digest that goes into the file: over its one line of `meta` (all of it but the digest itself)."""
    import hashlib

    return hashlib.sha256(canonical({k: v for k, v in meta.items() if k != "digest"}).encode()).hexdigest()


def meta_to_sign(meta: Mapping[str, Any]) -> bytes:
    """What a node signs of its line of `meta`: all but the signature and the digest."""
    signed = {name: value for name, value in meta.items() if name not in ("signature", "digest")}
    return b"drbdbackup-catalog\n" + canonical(signed).encode()


def by_id(connection: sqlite3.Connection) -> Iterable[dict[str, Any]]:
    """The rows of a catalog with whatever columns they have, in the order of their ids."""
    cursor = connection.execute("SELECT * FROM fact ORDER BY id")
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _seal(connection: sqlite3.Connection, path: str, node: str, key: OwnKey, now: datetime) -> None:
    """Leave the facts alone in the draft, and add the line that vouches for them. The draft may be lost: no journal."""
    for pragma in ("journal_mode = OFF", "synchronous = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    for kind, name in connection.execute(_LOCAL_ONLY).fetchall():
        connection.execute(f'DROP {kind} IF EXISTS "{name}"')
    content = Content()
    for row in by_id(connection):
        if identity(*(row[name] for name in COLUMNS[1:])) != row["id"]:
            raise CatalogError(f"{path} is damaged: a fact is not what its id says", REBUILD)
        content.add(row)
    meta = {
        "node": node, "published_at": iso(now), "schema": SCHEMA, "rows": content.count, "content": content.digest(),
        "key": key.public,
    }
    meta["signature"] = key.sign(meta_to_sign(meta))
    connection.execute(_META)
    connection.execute("INSERT INTO meta VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*meta.values(), digest_of(meta)))
    connection.execute("VACUUM")


def _rename_synced(draft: str, final: str) -> None:
    handle = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(draft, final)
