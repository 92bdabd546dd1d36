"""What people were told of a resource, by which node and for which due time: so that one of the nodes tells it, once.

The nodes learn of it as of everything else, by their catalogs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum

from msgspec import Struct

from drbdbackup.catalog.facts import NOTIFIED, Fact, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso
from drbdbackup.model.document_reader import fitting

_NOTICES = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'notified' AND resource = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 100
"""


_NEXT = timedelta(days=1)  # no more: what another node says of a far day must not keep us silent until then


class NoticeKind(Enum):
    """What can be told of a resource."""

    FAILED = "failed"
    PARTIAL = "partial"
    HELD = "held"
    REFUSED = "refused"
    CRITICAL = "critical"  # nobody made the backup, a node is silent, a split brain
    RECOVERED = "recovered"


class Notice(Struct, frozen=True):
    """`node` has told this for the due time `due_at`."""

    kind: NoticeKind
    due_at: datetime
    node: str


class _NoticeBody(Struct, frozen=True, kw_only=True):
    """What a body must have to describe a notice."""

    what: NoticeKind
    due_at: str


def notified(node: str, resource: str, kind: NoticeKind, due_at: datetime) -> Fact:
    """The fact that people were told, now."""
    body = {"what": kind.value, "due_at": iso(due_at)}
    return fact(node, datetime.now(UTC), NOTIFIED, resource, resource, body)


def known(state_dir: str, resource: str) -> list[Notice]:
    """The newest notices of all nodes, the newest first. Raises CatalogError."""
    until = iso(datetime.now(UTC) + timedelta(days=1))  # a clock that was wrong once must not rule for ever
    return readable(rows(state_dir, _NOTICES, (resource, until)), _from)


def is_new(notices: Sequence[Notice], kind: NoticeKind, due_at: datetime, by: str = "") -> bool:
    """Whether nobody has told this for that due time, or for the next one, which a node whose turn comes later has not
    come to yet; a recovery is news only after something else.

    With the node `by` only what that has told counts: of its own runs it believes nobody else.
    """
    if kind is NoticeKind.RECOVERED:
        return bool(notices) and notices[0].kind is not NoticeKind.RECOVERED
    since = next((at for at, one in enumerate(notices) if one.kind is NoticeKind.RECOVERED), len(notices))
    told = (one.due_at for one in notices[:since] if one.kind is kind and by in ("", one.node))
    return not any(due_at <= at <= due_at + _NEXT for at in told)


def _from(said: Fact) -> Notice | None:
    body = fitting(_NoticeBody, said.body)
    due_at = moment(body.due_at) if body is not None else None
    return None if body is None or due_at is None else Notice(body.what, due_at, said.node)
