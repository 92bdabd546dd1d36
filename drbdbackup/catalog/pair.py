"""What each node recorded last of the configuration that must be the same on all: check values, never content.

A fact of kind "pair" about the node itself. Bodies come from other nodes: what is invalid is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.facts import FACTS, PAIR, Fact, believed_until, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso

_NEWEST = f"{FACTS} WHERE kind = 'pair' AND subject = ? AND node = subject AND at < ? ORDER BY at DESC, id DESC LIMIT 1"


class ConfigSummary(Struct, frozen=True):
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
        body = {"digests": dict(self.digests), "linked": list(self.linked)}
        return body if self.targets is None else {**body, "targets": list(self.targets)}


def paired(node: str, at: datetime, summary: ConfigSummary) -> Fact:
    """The fact, recorded by the node that it is about."""
    return fact(node, at, PAIR, "", node, summary.as_body())


def summary_from(body: Mapping[str, Any], at: datetime | None) -> ConfigSummary | None:
    """What a body says, or None if it says nothing of the kind."""
    digests, linked, targets = body.get("digests"), body.get("linked"), body.get("targets")
    if not isinstance(digests, dict) or not isinstance(linked, list):
        return None
    by_file = {name: value for name, value in digests.items() if isinstance(name, str) and isinstance(value, str)}
    return ConfigSummary(
        tuple(sorted(by_file.items())), _texts(linked), at, _texts(targets) if isinstance(targets, list) else None
    )


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if isinstance(value, str)}))


def newest(state_dir: str, node: str) -> ConfigSummary | None:
    """What the node recorded last, as far as it is known here. Raises CatalogError."""
    answer = rows(state_dir, _NEWEST, (node, iso(believed_until())))
    return next(iter(readable(answer, lambda fact: summary_from(fact.body, moment(fact.at)))), None)
