"""Facts from what lies on a medium: each snapshot carries a sidecar that says what it is, so the catalog can be lost.

Pure: whoever reads the sidecars gives them here. A sidecar is believed only about the folder that it lies in: one that
was copied or renamed by hand tells of a snapshot that is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from drbdbackup.catalog.bodies import copied, copy_from, subject_of
from drbdbackup.catalog.facts import Fact
from drbdbackup.model.backup import SAFETY


@dataclass(frozen=True, slots=True)
class Place:
    """The medium where sidecars were found, as its target.json and this node's configuration name it.

    `root` is the absolute path of the folder `drbdbackup` on it, as the configuration would have it mounted.
    """

    medium: str
    target: str
    kind: str
    holder: str
    location: str
    root: str


def facts_from_sidecars(
    node: str, at: datetime, place: Place, sidecars: Iterable[tuple[str, str, Any]], known: Collection[str] = ()
) -> list[Fact]:
    """The copy facts that are missing, said by `node` at `at`.

    Each sidecar comes as (resource folder, snapshot folder, the document in it). Passed over are those `known` as
    subjects (pruned ones too: what was pruned stays pruned) and those that make no sense. Unknown fields do no harm.
    """
    found = []
    for resource, snapshot, document in sidecars:
        if not isinstance(document, Mapping):
            continue
        if (document.get("resource"), document.get("snapshot")) != (resource, snapshot):
            continue
        within = f"{resource}/safety" if document.get("purpose") == SAFETY else resource
        copy = copy_from({
            **document, "medium": place.medium, "target": place.target, "kind": place.kind, "holder": place.holder,
            "location": place.location, "path": f"{place.root}/{within}/{snapshot}/data",
            "problems": document.get("problem_count", 0),
        })
        if copy is not None and subject_of(copy) not in known:
            found.append(copied(node, at, copy))
    return found
