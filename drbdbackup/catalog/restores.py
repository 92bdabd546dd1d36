"""Restores in place, as the facts of all nodes describe them: which one has begun and not ended."""

from __future__ import annotations

from drbdbackup.catalog.facts import FACTS, Fact, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.restoring import ORDER, RestoreStage, Restoring, from_document

_RESTORES = f"{FACTS} WHERE kind = 'restore' AND resource = ? ORDER BY subject"


def unfinished(state_dir: str, resource: str) -> Restoring | None:
    """The newest restore in place that has not ended, as far as it is known to have come.

    Facts of one second have no order: of each restore the last of its stages counts. What is invalid is passed
    over.
    """
    latest: dict[str, Restoring] = {}
    for one in readable(rows(state_dir, _RESTORES, (resource,)), _restoring):
        before = latest.get(one.name, one)
        latest[one.name] = max(before, one, key=lambda restore: ORDER.index(restore.stage))
    left = [one for one in latest.values() if one.stage is not RestoreStage.ENDED]
    return max(left, key=lambda one: (one.begun_at, one.name), default=None)


def _restoring(fact: Fact) -> Restoring | None:
    one = from_document(fact.body)
    return one if one is not None and (one.name, one.resource) == (fact.subject, fact.resource) else None
