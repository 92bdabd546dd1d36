"""A fact: what one node did or saw, recorded once and never changed. The catalog is nothing but a set of these.

The id is a hash of everything else, so a union of any catalogs in any order gives the same set, and a row that was
tampered with or rotted on a medium names itself. Kinds are plain words and bodies are open dictionaries: what a newer
version says is kept and passed on, never dropped for being unknown. Nothing here reads or writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct

from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import from_iso

RUN = "run"
COPY = "copy"
SAFETY = "safety"  # a copy that is no backup: a kind of its own, so that nobody takes it for one, older versions least
PRUNED = "pruned"
FOUND = "found"  # a copy that was recorded as pruned is there all the same
RESTORE = "restore"
VERIFIED = "verified"
DAMAGED = "damaged"
SCRUBBED = "scrubbed"
DRILLED = "drilled"
SIGNED = "signed"
TARGET = "target"
ROOM = "room"
MEASURED = "measured"
PAIR = "pair"
TASK = "task"
PINNED = "pinned"
UNPINNED = "unpinned"
NOTED = "noted"
NOTIFIED = "notified"
PRINTED = "printed"  # the sheet with a repository's password

Read = TypeVar("Read")

COLUMNS = ("id", "node", "at", "kind", "resource", "subject", "body")
FACTS = f"SELECT {', '.join(COLUMNS)} FROM fact"  # noqa: S608 names of our own table, as `from_row` takes them
SIGNATURE = "signature"  # of the node over the other columns; null in what older versions recorded

# What a row of another node may hold at most. Ours stay far below: other nodes that refuse one row refuse the catalog.
_LONGEST = {"node": 64, "at": 40, "kind": 64, "resource": 256, "subject": 1024, "body": 1 << 20}
_OWN_BODY = 1 << 18  # letters
_LONG_TEXT, _LONG_LIST = 2000, 100  # letters, items
_DEEPEST = 32  # levels of JSON
CLOCK_SKEW = timedelta(days=1)  # by which the clocks of nodes may differ

_ID = re.compile(r"[0-9a-f]{32}\Z")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z", re.ASCII)  # texts in this form sort by time
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


class Fact(Struct, frozen=True, kw_only=True):
    """One fact: `node` recorded it at `at`; `kind` says what `subject` and the JSON object `body` mean.

    `at` is an `iso_microseconds` text, in the facts of older versions an `iso` one.
    """

    id: str
    node: str
    at: str
    kind: str
    resource: str
    subject: str
    body: Mapping[str, Any]


def fact(node: str, at: datetime, kind: str, resource: str, subject: str, body: Mapping[str, Any]) -> Fact:
    """A new fact. A body that is too large has its long texts and lists cut: a run must be recorded, whatever it met.

    Raises CatalogError if even that leaves what other nodes would refuse.
    """
    text = canonical(body)
    if len(text) > _OWN_BODY:
        text = canonical(_cut(json.loads(text)))
    row = (node, iso_microseconds(at), kind, resource, subject, text)
    reason = "the body is too large" if len(text) > _OWN_BODY else why_invalid((identity(*row), *row))
    if reason:
        raise CatalogError(f"a fact of kind {kind!r} about {subject!r} cannot be recorded: {reason}")
    return from_row((identity(*row), *row))


def iso_microseconds(at: datetime) -> str:
    """ISO 8601 in UTC to the microsecond: what one node says within a second has an order, and texts sort by it.

    Always with the fraction: without one, as older versions write it, a text sorts behind all of its second.
    """
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def canonical(value: Any) -> str:
    """The one way to write a JSON value: ASCII, keys sorted, no blanks. ValueError for what JSON cannot say."""
    return _ENCODER.encode(value)


def identity(node: str, at: str, kind: str, resource: str, subject: str, body: str) -> str:
    """The id of a fact whose body is already canonical: 32 hex digits of SHA-256 over its other columns as JSON."""
    import hashlib  # it loads OpenSSL, and who only reads a catalog has no use for it

    return hashlib.sha256(_content(node, at, kind, resource, subject, body)).hexdigest()[:32]


def to_sign(node: str, at: str, kind: str, resource: str, subject: str, body: str) -> bytes:
    """What the node signs of a fact: all that its id is made of, whole."""
    return b"drbdbackup-fact\n" + _content(node, at, kind, resource, subject, body)


def as_row(fact: Fact) -> tuple[str, ...]:
    """The fact as a row in the order of `COLUMNS`, the body as canonical JSON."""
    return (fact.id, fact.node, fact.at, fact.kind, fact.resource, fact.subject, canonical(fact.body))


def from_row(row: tuple[str, ...]) -> Fact:
    """The fact of a row that `why_invalid` found nothing against."""
    ident, node, at, kind, resource, subject, body = row
    return Fact(id=ident, node=node, at=at, kind=kind, resource=resource, subject=subject, body=json.loads(body))


def from_columns(row: Mapping[str, Any]) -> Fact:
    """The same of a row that has the names of its columns, and perhaps more."""
    return from_row(tuple(row[name] for name in COLUMNS))


def why_invalid(row: tuple[Any, ...]) -> str:
    """Why a row (in the order of `COLUMNS`) from a medium or a peer is no fact, in words; "" if it is one."""
    if len(row) != len(COLUMNS) or not all(isinstance(value, str) for value in row):
        return "a column is missing or is no text"
    ident, node, at, kind, resource, subject, body = row
    for name, value in zip(COLUMNS[1:], row[1:], strict=True):
        if len(value) > _LONGEST[name]:
            return f"its {name} is too long"
    if not _ID.match(ident) or not is_node_name(node) or not kind or not subject:
        return "its id, node, kind or subject is malformed"
    if not _TIME.match(at) or moment(at) is None:
        return "its time is malformed"
    if identity(node, at, kind, resource, subject, body) != ident:
        return "its content is not what its id says"
    return "" if _is_canonical_object(body) else "its body is malformed"


def readable(answer: Iterable[tuple[Any, ...]], read: Callable[[Fact], Read | None]) -> list[Read]:
    """What `read` makes of the facts in a query's answer.

    Those are passed over which it makes nothing of (they may be a newer version's, or invalid), and rows that rotted on
    our own disk.
    """
    found = []
    for row in answer:
        try:
            fact = from_row(row)
            one = read(fact) if isinstance(fact.body, dict) else None
        except (TypeError, ValueError, AttributeError, RecursionError):
            continue
        if one is not None:
            found.append(one)
    return found


def is_node_name(name: str) -> bool:
    """Whether `name` can be a node's: the gate for file names on a road."""
    return _NODE.match(name) is not None


def moment(text: Any) -> datetime | None:
    """The UTC time of an `iso` or `iso_microseconds` text, or None for anything else: what others wrote never
    raises.
    """
    if not isinstance(text, str):
        return None
    try:
        return from_iso(text)
    except ValueError:
        return None


def believed_until() -> datetime:
    """The last time that is believed, a day ahead: a fact of a clock that was wrong once must not stay the newest."""
    return datetime.now(UTC) + CLOCK_SKEW


def _content(node: str, at: str, kind: str, resource: str, subject: str, body: str) -> bytes:
    say = canonical
    text = (
        f'{{"at":{say(at)},"body":{body},"kind":{say(kind)},"node":{say(node)},'
        f'"resource":{say(resource)},"subject":{say(subject)}}}'
    )
    return text.encode("utf-8", "surrogatepass")


def _is_canonical_object(text: str) -> bool:
    try:
        value = json.loads(text)
        return isinstance(value, dict) and not _is_deep(value, _DEEPEST) and canonical(value) == text
    except (ValueError, RecursionError):
        return False


def _is_deep(value: Any, left: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    within = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_is_deep(item, left - 1) for item in within)


def _cut(value: Any) -> Any:
    """The value with long texts and long lists cut, at every depth."""
    if isinstance(value, str):
        return value if len(value) <= _LONG_TEXT else value[:_LONG_TEXT] + "..."
    if isinstance(value, list):
        return [_cut(item) for item in value[:_LONG_LIST]]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return value
