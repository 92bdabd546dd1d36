"""What each node said last of the configuration that must be the same on all: check values, never content.

A fact of kind "pair" about the node itself. Bodies come from other nodes: what is invalid is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.facts import PAIR, Fact, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso

_NEWEST = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'pair' AND subject = ? AND node = subject AND at < ? ORDER BY at DESC, id DESC LIMIT 1
"""
_AHEAD = timedelta(days=1)  # for clocks that are off


class Said(Struct, frozen=True):
    """What a node says: a check value for each file by what it is called, and the folders that lead to the volume.

    `targets` are those of its configuration, as facts call them (`nas`, `disk@www4`); None where an older version says
    nothing of them.
    """

    digests: tuple[tuple[str, str], ...]
    linked: tuple[str, ...]
    at: datetime | None = None
    targets: tuple[str, ...] | None = None

    def as_body(self) -> dict[str, Any]:
        """As a fact, and a peer over ssh, gives it."""
        told = {"digests": dict(self.digests), "linked": list(self.linked)}
        return told if self.targets is None else {**told, "targets": list(self.targets)}


def paired(node: str, at: datetime, said: Said) -> Fact:
    """The fact, recorded by the node that it is about."""
    return fact(node, at, PAIR, "", node, said.as_body())


def said_from(body: Mapping[str, Any], at: datetime | None) -> Said | None:
    """What a body says, or None if it says nothing of the kind."""
    digests, linked, targets = body.get("digests"), body.get("linked"), body.get("targets")
    if not isinstance(digests, dict) or not isinstance(linked, list):
        return None
    told = {name: value for name, value in digests.items() if isinstance(name, str) and isinstance(value, str)}
    return Said(tuple(sorted(told.items())), _texts(linked), at, _texts(targets) if isinstance(targets, list) else None)


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if isinstance(value, str)}))


def newest(state_dir: str, node: str) -> Said | None:
    """What the node said last, as far as it is known here. Raises CatalogError."""
    answer = rows(state_dir, _NEWEST, (node, iso(datetime.now(UTC) + _AHEAD)))
    return next(iter(readable(answer, lambda told: said_from(told.body, moment(told.at)))), None)
