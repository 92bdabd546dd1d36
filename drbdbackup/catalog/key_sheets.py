"""Which repositories have a sheet for the safe: a fact of whichever node has printed it, without what is on it."""

from __future__ import annotations

from datetime import datetime

from drbdbackup.catalog.facts import PRINTED, Fact, fact
from drbdbackup.catalog.local import rows

_PRINTED = "SELECT 1 FROM fact WHERE kind = 'printed' AND subject = ? LIMIT 1"


def printed(node: str, at: datetime, target: str, medium: str) -> Fact:
    """The fact that somebody has asked for the sheet of a target; `medium` is the repository's id."""
    return fact(node, at, PRINTED, "", medium, {"target": target})


def is_printed(state_dir: str, medium: str) -> bool:
    """Whether any node has recorded that for this repository. Raises CatalogError."""
    return bool(rows(state_dir, _PRINTED, (medium,)))
