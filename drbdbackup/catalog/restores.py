"""Restores in place, as the facts of all nodes tell of them: which one has begun and not ended."""

from __future__ import annotations

import json

from drbdbackup.catalog.local import rows
from drbdbackup.model.restoring import ORDER, Restoring, Stage, from_document

_RESTORES = "SELECT subject, body FROM fact WHERE kind = 'restore' AND resource = ? ORDER BY subject"


def unfinished(state_dir: str, resource: str) -> Restoring | None:
    """The newest restore in place that has not ended, as far as it is known to have come.

    Facts of one second have no order: of each restore the last of its stages counts. What makes no sense is passed
    over.
    """
    latest: dict[str, Restoring] = {}
    for subject, body in rows(state_dir, _RESTORES, (resource,)):
        one = _restoring(str(body))
        if one is not None and (one.name, one.resource) == (subject, resource):
            before = latest.get(one.name, one)
            latest[one.name] = max(before, one, key=lambda told: ORDER.index(told.stage))
    left = [one for one in latest.values() if one.stage is not Stage.ENDED]
    return max(left, key=lambda one: (one.begun_at, one.name), default=None)


def _restoring(body: str) -> Restoring | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return from_document(found) if isinstance(found, dict) else None
