"""Taking in what another node published: a union of rows, after a look at each of them.

Anyone who can write to the share may have written the file, or part of it, or damaged it. It is opened read-only, as
it is (no journal of its own is played), with nothing in its schema trusted, and its schema must hold plain tables and
nothing that computes. One bad row and all of it is refused, with the reason: then older knowledge stands. Facts that
the node which they name has not signed are left out, and so are those of nodes that the configuration does not name,
and what is not for a node to say (see `authority`).
A file that is not signed by the node that it is of is not looked into at all, once that node's key is known.
"""

from __future__ import annotations

import glob
import os
import re
import sqlite3
import stat
import time
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup.catalog import authority
from drbdbackup.catalog.authority import OwnView, is_entitled, is_in_good_faith
from drbdbackup.catalog.bodies import is_count
from drbdbackup.catalog.facts import (
    COLUMNS,
    COPY,
    FACTS,
    PRUNED,
    SAFETY,
    SIGNATURE,
    TARGET,
    Fact,
    canonical,
    from_columns,
    from_row,
    identity,
    is_node_name,
    moment,
    readable,
    to_sign,
    why_invalid,
)
from drbdbackup.catalog.folders import incoming_folder, path_of
from drbdbackup.catalog.local import make_ready, note, rows, uri, writing
from drbdbackup.catalog.publish import Content, by_id, digest_of, meta_to_sign
from drbdbackup.catalog.signatures import Signers, fingerprint, is_public_key, is_signed, known_since, learn, own_since
from drbdbackup.catalog.store import MOST_COLUMNS, add, forget_unsigned
from drbdbackup.catalog.transfer import LARGEST
from drbdbackup.model.backup import iso

_SEEN = """
INSERT INTO seen (node, seen_at, road, content) VALUES (?, ?, ?, ?)
ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at, road = excluded.road, content = excluded.content
WHERE excluded.seen_at > seen_at
"""
_FETCHED = "INSERT OR REPLACE INTO fetched (road, name, stamp) VALUES (?, ?, ?)"
_CLAIMS = f"{FACTS} WHERE kind = 'target'"
_OWN_COPIES = f"{FACTS} WHERE kind = 'copy' AND node = ? ORDER BY at DESC, id DESC LIMIT 100"
_COPY_COUNT = """
SELECT count(DISTINCT fact.subject) FROM fact LEFT JOIN standing ON standing.subject = fact.subject
WHERE node = ? AND kind IN ('copy', 'safety') AND coalesce(pruned, 0) = 0
"""
_COLUMNS = "PRAGMA table_info(fact)"
MOST_OF_OTHERS = 40 << 20  # bytes of all other nodes' facts: with our own, what we publish stays below LARGEST
_ROW_OVERHEAD = 300  # bytes that SQLite needs for a row beside its texts, with the indexes
MOST_COPIES = 4000  # that one node says are there; each hour of a month and each day of a year are 1100
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_DEADLINE = 60.0  # seconds for SQLite to work on one file
_LONGEST_VALUE = 4 << 20  # bytes


class Merged(Struct, frozen=True):
    """What became of one file: `new` facts came from `node`'s catalog, or it was `refused` for that reason.

    `refused` may also say what in it was left out, beside what was taken in.
    """

    file: str
    node: str = ""
    new: int = 0
    refused: str = ""


class _Read(Struct, frozen=True):
    """A catalog that was found good: its line of meta, and the rows that are not known here."""

    meta: Mapping[str, Any]
    unknown: Sequence[Mapping[str, Any]]


class _Refused(Exception):
    """The file is not a catalog that may be taken in; says why."""


def merge(state_dir: str, file: str, road: str, whose: Signers, now: datetime | None = None) -> Merged:
    """Take the facts of a published catalog into this node's own that are by one of `whose` nodes.

    `file` lies on a local disk (see `road.fetch`). A file that is not good is refused in the answer, not raised;
    CatalogError is for this node's own catalog alone. `seen` is never later than `now` (this moment), and only what the
    node itself has signed counts as seen.
    """
    make_ready(state_dir)
    known = {str(ident): bool(signed) for ident, signed in rows(state_dir, "SELECT id, signature NOTNULL FROM fact")}
    last = rows(state_dir, "SELECT content FROM seen ORDER BY node")
    try:
        read = _read(file, known, {str(row[0]) for row in last}, whose)
    except _Refused as refused:
        return Merged(file, refused=str(refused))
    if read is None:
        return Merged(file)
    node = str(read.meta["node"])
    published_at = moment(read.meta["published_at"]) or datetime.min.replace(tzinfo=UTC)
    from_ours = [row for row in read.unknown if row["node"] in whose.nodes]
    by_ours = _within_copy_limit(state_dir, from_ours, whose.own)
    signed = [_with_proof(row, whose) for row in by_ours if _is_signed(row, whose)]
    own = [row for row in signed if row["node"] == whose.own]
    known_now = _known(state_dir, whose, own)
    judged = [(row, fact, is_entitled(fact, known_now)) for row in signed for fact in (from_columns(row),)]
    counting = [row for row, _, counts in judged if counts]
    entitled = _within_quota(state_dir, counting, whose)
    odd = [row for row, fact, counts in judged if not counts and not is_in_good_faith(fact)]
    objections = {
        f"are of more copies than a node may have ({MOST_COPIES:,})": len(from_ours) - len(by_ours),
        "are not signed by the node that they name": len(by_ours) - len(signed) - _earlier(state_dir, by_ours, whose),
        "are about things that node cannot know": len(odd),
        f"are more than a node may say ({quota(whose.nodes) >> 20} MiB)": len(counting) - len(entitled),
    }
    objection = "; ".join(f"{number} facts in it {why}" for why, number in objections.items() if number)
    whole = "" if objection else read.meta["content"]  # what was left out is looked at again, and named again
    sight = (node, iso(min(published_at, now or datetime.now(UTC))), road, whole)
    if not entitled:
        note(state_dir, _SEEN, [sight])
        return Merged(file, node, refused=objection)
    with writing(state_dir) as connection:
        new = add(connection, entitled)
        connection.execute(_SEEN, sight)
    return Merged(file, node, new, objection)


def learn_key(state_dir: str, file: str, node: str, known: str) -> str:
    """Learn the key of a node from its catalog, which came by a road that only that node can use.

    `known` is the key that is known already, "" for none. Why another one is not learned, "" if nothing is wrong. What
    was believed of the node before its key was known, and is not in that catalog, is believed no longer.
    """
    try:
        with _opened(file) as connection:
            _check_schema(connection)
            meta = _meta(connection)
    except (_Refused, sqlite3.Error, ValueError):
        return ""  # merge says what is wrong with it
    key = meta.get("key")
    signature = meta.get("signature")
    if meta["node"] != node or not is_public_key(key) or not is_signed(key, meta_to_sign(meta), signature):
        return ""  # an older version's
    if not known:
        learn(state_dir, node, key)
        forget_unsigned(state_dir, node)
    elif known != key:
        now = f"{node} has another key now ({fingerprint(key)}) than it had ({fingerprint(known)})"
        return f"{now}: if it was installed anew or lost its state folder, `drbdbackup peer trust {node} KEY`"
    return ""


def unsigned_by(state_dir: str, node: str, key: str) -> list[str]:
    """The roads by which a catalog came last in a node's name that was not signed with its key. Never raises.

    What came before the key was known is of an older version: the road may be closed since (the volume at a failover).
    """
    found, since = [], known_since(state_dir, node)
    for file in glob.glob(os.path.join(glob.escape(incoming_folder(state_dir, "")), "*", f"{glob.escape(node)}.db")):
        with suppress(_Refused, sqlite3.Error, ValueError, OSError), _opened(file) as connection:
            _check_schema(connection)
            meta = _meta(connection)
            is_later = os.stat(file).st_mtime > since
            if is_later and not is_signed(key, meta_to_sign(meta), meta.get("signature")):
                found.append(os.path.basename(os.path.dirname(file)))
    return sorted(found)


def merge_fetched(
    state_dir: str, road: str, folder: str, fetched: Mapping[str, Sequence[int]], whose: Signers
) -> list[Merged]:
    """Merge what `road.fetch` copied into `folder`. The good ones are not fetched again until they change."""
    merged = [merge(state_dir, os.path.join(folder, name), road, whose) for name in fetched]
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
        answer = connection.execute(FACTS)
        found.extend(from_row(row) for row in answer if not why_invalid(row))
    return found


def _known(state_dir: str, whose: Signers, more: Sequence[Mapping[str, Any]]) -> OwnView:
    """By what is judged what other nodes say: what is known here, and `more` of this node's own that comes just now.

    A node that is none of the pair (any more: it may have got another name) has no disk.
    """
    node = whose.own
    claims = [fact for fact in readable(rows(state_dir, _CLAIMS), lambda fact: fact) if fact.node in whose.nodes]
    copies = readable(rows(state_dir, _OWN_COPIES, (node,)), lambda fact: fact)
    facts = [from_columns(row) for row in more]
    claims = sorted([*claims, *(fact for fact in facts if fact.kind == TARGET)], key=lambda fact: (fact.at, fact.id))
    vouched = [fact for fact in (*copies, *facts) if fact.kind == COPY and authority.vouches(fact)]
    numbers = [int(fact.body["sequence"]) for fact in vouched if is_count(fact.body.get("sequence"))]
    return OwnView(node, authority.owners(claims, node), max(numbers, default=0))


def _within_copy_limit(state_dir: str, rows_of_all: list[Mapping[str, Any]], own: str) -> list[Mapping[str, Any]]:
    """Without the oldest copies of a node that says that more are there than may be: each costs every command time.

    Before a signature is checked, which costs most. This node's own are not counted.
    """
    pruned = {row["subject"] for row in rows_of_all if row["kind"] == PRUNED}
    named: dict[str, dict[str, str]] = {}
    for row in rows_of_all:
        if row["kind"] in (COPY, SAFETY) and row["node"] != own and row["subject"] not in pruned:
            about = named.setdefault(row["node"], {})
            about[row["subject"]] = max(row["at"], about.get(row["subject"], ""))
    left_out: dict[str, set[str]] = {}
    for node, about in named.items():
        room = max(0, MOST_COPIES - int((rows(state_dir, _COPY_COUNT, (node,)) or [(0,)])[0][0]))
        left_out[node] = set(sorted(about, key=lambda subject: (about[subject], subject))[: max(0, len(about) - room)])
    return [
        row for row in rows_of_all
        if row["kind"] not in (COPY, SAFETY) or row["subject"] not in left_out.get(row["node"], ())
    ]  # fmt: skip


def quota(nodes: Collection[str]) -> int:
    """Bytes that each other node of these may have in this node's catalog."""
    return MOST_OF_OTHERS // max(1, len(nodes) - 1)


def stored_bytes(state_dir: str, node: str) -> int:
    """Bytes that a node's facts have in this node's catalog."""
    names = [str(column[1]) for column in rows(state_dir, _COLUMNS)]
    lengths = " + ".join(f'coalesce(length(CAST("{name}" AS BLOB)), 0)' for name in names if _COLUMN.match(name))
    sql = f"SELECT sum({lengths} + {_ROW_OVERHEAD}) FROM fact WHERE node = ?"  # noqa: S608 names of our own table
    return int((rows(state_dir, sql, (node,)) or [(0,)])[0][0] or 0) if names else 0


def _within_quota(state_dir: str, coming: list[Mapping[str, Any]], whose: Signers) -> list[Mapping[str, Any]]:
    """Without what a node says beyond its room. Else it would fill our disk, and no node would take our catalog."""
    left = quota(whose.nodes)
    size = os.path.getsize(path_of(state_dir)) + sum(map(_row_bytes, coming))
    if size <= left:
        return coming
    used = {node: stored_bytes(state_dir, node) for node in {row["node"] for row in coming} - {whose.own}}
    kept = []
    for row in sorted(coming, key=lambda row: (row["at"], row["id"])):
        if row["node"] != whose.own:
            used[row["node"]] += _row_bytes(row)
            if used[row["node"]] > left:
                continue
        kept.append(row)
    return kept


def _row_bytes(row: Mapping[str, Any]) -> int:
    texts = (str(value) for value in row.values() if value is not None)
    return _ROW_OVERHEAD + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _is_signed(row: Mapping[str, Any], whose: Signers) -> bool:
    return whose.takes(row["node"], to_sign(*(row[name] for name in COLUMNS[1:])), row.get(SIGNATURE))


def _earlier(state_dir: str, by_ours: Sequence[Mapping[str, Any]], whose: Signers) -> int:
    """How many facts are of this node before it was installed anew: others keep them, signed with a lost key."""
    since = datetime.fromtimestamp(own_since(state_dir), UTC)
    ours = (row for row in by_ours if row["node"] == whose.own and not _is_signed(row, whose))
    return sum((at := moment(row["at"])) is not None and at < since for row in ours)


def _with_proof(row: Mapping[str, Any], whose: Signers) -> Mapping[str, Any]:
    """The row; without a signature that nobody here can check, so that one that can be checked may take its place."""
    return row if row["node"] in whose.keys else {**row, SIGNATURE: None}


def _read(file: str, known: Mapping[str, bool], contents: set[str], whose: Signers) -> _Read | None:
    """Read and check a published catalog, or raise _Refused. Rows that were all taken in before are not read again.

    None for one of this node's own that it has not signed, as an older version leaves it: it says nothing new.
    """
    try:
        with _opened(file) as connection:
            _check_schema(connection)
            meta = _meta(connection)
            if meta["node"] not in whose.nodes:
                raise _Refused(f"{meta['node']} is not a node of this configuration")
            if not whose.takes(meta["node"], meta_to_sign(meta), meta.get("signature")):
                if meta["node"] == whose.own and meta.get("signature") is None:
                    return None
                raise _Refused(f"it is not signed by {meta['node']} (`drbdbackup peer list` shows the keys)")
            if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
                raise _Refused("it is damaged (integrity check)")
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
        if len(columns) > MOST_COLUMNS or any(hidden for *_, hidden in columns):
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
    if not all(isinstance(value, (str, int, float, type(None))) for value in meta.values()):
        raise _Refused("nothing in it says who published it")
    if digest_of(meta) != meta["digest"]:
        raise _Refused("it is damaged (digest)")
    return meta


def _objection(row: tuple[Any, ...], known: Container[str]) -> str:
    """As `why_invalid`; one with a known id and that id's content was looked at when it came first."""
    is_known = row[0] in known and all(isinstance(value, str) for value in row)
    return "" if is_known and identity(*row[1:]) == row[0] else why_invalid(row)


def _unknown_rows(
    connection: sqlite3.Connection, meta: Mapping[str, Any], known: Mapping[str, bool]
) -> list[Mapping[str, Any]]:
    """All rows checked, those returned that are not known, or not known with a signature (which `known` says)."""
    content = Content()
    unknown: list[Mapping[str, Any]] = []
    for row in by_id(connection):
        reason = _objection(tuple(row[name] for name in COLUMNS), known)
        if reason or not all(isinstance(value, (str, int, float, type(None))) for value in row.values()):
            raise _Refused(f"it holds what is no fact ({reason or 'a value of another type'})")
        content.add(row)
        is_signed_here = known.get(row["id"])
        if is_signed_here is None or (not is_signed_here and row.get(SIGNATURE) is not None):
            unknown.append(row)
    if content.count != meta["rows"] or content.digest() != meta["content"]:
        raise _Refused("it is damaged (digest of its rows)")
    return unknown
