"""Which messages about a resource were sent, by which node and for which due time: one node sends each, once.

The nodes learn of it as of everything else, by their catalogs.

It never sends one: `delivery` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum

from msgspec import Struct

from drbdbackup.catalog.facts import FACTS, NOTIFIED, Fact, believed_until, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso
from drbdbackup.model.document_reader import fitting

_NOTICES = f"{FACTS} WHERE kind = 'notified' AND resource = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 100"


_NEXT = timedelta(days=1)  # no more: what another node says of a far day must not keep us silent until then


class NoticeKind(Enum):
    """What a message about a resource can say."""

    FAILED = "failed"
    PARTIAL = "partial"
    HELD = "held"
    REFUSED = "refused"
    CRITICAL = "critical"  # nobody made the backup, a node is silent, a split brain
    RECOVERED = "recovered"


class Notice(Struct, frozen=True):
    """`node` has sent this message for the due time `due_at`."""

    kind: NoticeKind
    due_at: datetime
    node: str


class _NoticeBody(Struct, frozen=True, kw_only=True):
    """What a body must have to describe a notice."""

    what: NoticeKind
    due_at: str


def notified(node: str, resource: str, kind: NoticeKind, due_at: datetime) -> Fact:
    """The fact that a message was sent, now."""
    body = {"what": kind.value, "due_at": iso(due_at)}
    return fact(node, datetime.now(UTC), NOTIFIED, resource, resource, body)


def known(state_dir: str, resource: str) -> list[Notice]:
    """The newest notices of all nodes, the newest first. Raises CatalogError."""
    return readable(rows(state_dir, _NOTICES, (resource, iso(believed_until()))), _from)


def is_new(notices: Sequence[Notice], kind: NoticeKind, due_at: datetime, by: str = "") -> bool:
    """Whether nobody has sent this for that due time, or for the next one, which a node whose turn comes later has not
    come to yet; a recovery is news only after something else.

    With the node `by` only what that has sent counts: of its own runs it believes nobody else.
    """
    if kind is NoticeKind.RECOVERED:
        return bool(notices) and notices[0].kind is not NoticeKind.RECOVERED
    since = next((at for at, one in enumerate(notices) if one.kind is NoticeKind.RECOVERED), len(notices))
    due_times = (one.due_at for one in notices[:since] if one.kind is kind and by in ("", one.node))
    return not any(due_at <= at <= due_at + _NEXT for at in due_times)


def _from(fact: Fact) -> Notice | None:
    body = fitting(_NoticeBody, fact.body)
    due_at = moment(body.due_at) if body is not None else None
    return None if body is None or due_at is None else Notice(body.what, due_at, fact.node)
