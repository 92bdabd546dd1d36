"""What each node said last of the configuration that must be the same on all: check values, never content.

A fact of kind "pair" about the node itself. Bodies come from other nodes: what makes no sense in one is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from drbdbackup.catalog.facts import Fact, fact, from_row, moment
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso

PAIR = "pair"
_NEWEST = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'pair' AND subject = ? AND node = subject AND at < ? ORDER BY at DESC, id DESC LIMIT 1
"""
_AHEAD = timedelta(days=1)  # for clocks that are off


@dataclass(frozen=True, slots=True)
class Said:
    """What a node says: a check value for each file by what it is called, and the folders that lead to the volume."""

    digests: tuple[tuple[str, str], ...]
    linked: tuple[str, ...]
    at: datetime | None = None

    def as_body(self) -> dict[str, Any]:
        """As a fact, and a peer over ssh, tells it."""
        return {"digests": dict(self.digests), "linked": list(self.linked)}


def paired(node: str, at: datetime, said: Said) -> Fact:
    """The fact, recorded by the node that it is about."""
    return fact(node, at, PAIR, "", node, said.as_body())


def said_from(body: Mapping[str, Any], at: datetime | None) -> Said | None:
    """What a body says, or None if it says nothing of the kind."""
    digests, linked = body.get("digests"), body.get("linked")
    if not isinstance(digests, dict) or not isinstance(linked, list):
        return None
    told = {name: value for name, value in digests.items() if isinstance(name, str) and isinstance(value, str)}
    return Said(tuple(sorted(told.items())), tuple(sorted({path for path in linked if isinstance(path, str)})), at)


def newest(state_dir: str, node: str) -> Said | None:
    """What the node said last, as far as it is known here. Raises CatalogError."""
    for row in rows(state_dir, _NEWEST, (node, iso(datetime.now(UTC) + _AHEAD))):
        try:
            told = from_row(row)
        except (TypeError, ValueError, RecursionError):
            return None
        return said_from(told.body, moment(told.at)) if isinstance(told.body, dict) else None
    return None
