"""`target.json`: the mark on a medium by which it is known again, whatever device name or path it comes under.

It only reads and writes the mark. What it means that a mark is another one is for `identity` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from drbdbackup.errors import Damaged
from drbdbackup.model.backup import from_iso, iso
from drbdbackup.model.document_reader import fitting, one_line
from drbdbackup.targets import document, layout

_LIMIT = 1 << 16  # bytes


class Identity(Struct, frozen=True, kw_only=True):
    """What a medium says it is: `medium` is a UUID4 in hex, made when it was enrolled by the node `enrolled_by`.

    `node` is the node whose disk it is, "" for a shared one; `filesystem_uuid` is "" where none is to be seen.
    """

    medium: str
    name: str
    kind: str
    node: str
    filesystem_uuid: str
    enrolled_at: datetime
    enrolled_by: str

    def as_document(self) -> dict[str, Any]:
        """The content of `target.json`."""
        return {
            "schema": 1, "medium": self.medium, "name": self.name, "kind": self.kind, "node": self.node,
            "filesystem_uuid": self.filesystem_uuid, "enrolled_at": iso(self.enrolled_at),
            "enrolled_by": self.enrolled_by,
        }  # fmt: skip


def read(root: str) -> Identity | None:
    """The identity of the medium that is mounted at `root`, None if it is not marked. Raises Damaged, OSError."""
    path = layout.mark(root)
    try:
        found = document.read(path, _LIMIT)
    except FileNotFoundError:
        return None
    return _identity(path, found)


def write(root: str, identity: Identity) -> None:
    """Mark the medium, atomically. Raises OSError."""
    layout.make_folder(layout.home(root))
    document.write(layout.mark(root), identity.as_document())


class _IdentityBody(Struct, frozen=True, kw_only=True):
    """What a mark must have."""

    medium: str
    name: str
    kind: str
    node: str
    filesystem_uuid: str
    enrolled_at: str
    enrolled_by: str


def _identity(path: str, found: Mapping[str, Any]) -> Identity:
    parsed = fitting(_IdentityBody, found)
    if parsed is None or not parsed.medium.isalnum():
        raise Damaged(f"{path} is not the mark of a target")
    try:
        enrolled_at = from_iso(parsed.enrolled_at)
    except ValueError:
        raise Damaged(f"{path} is not the mark of a target") from None
    words = {key: one_line(getattr(parsed, key)) for key in ("name", "kind", "node", "filesystem_uuid", "enrolled_by")}
    return Identity(medium=parsed.medium, enrolled_at=enrolled_at, **words)
