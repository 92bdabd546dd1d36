"""Facts from what lies on a medium: each snapshot carries a sidecar that says what it is, so the catalog can be lost.

Pure: whoever reads the sidecars gives them here. A sidecar is believed only about the folder that it lies in: one that
was copied or renamed by hand describes a snapshot that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.bodies import copy_from
from drbdbackup.model.backup import SAFETY, Copy


class SidecarMedium(Struct, frozen=True):
    """The medium where sidecars were found, as its target.json and this node's configuration name it.

    `root` is the absolute path of the folder `drbdbackup` on it, as the configuration would have it mounted.
    """

    medium: str
    target: str
    kind: str
    holder: str
    location: str
    root: str


def copies_from_sidecars(place: SidecarMedium, sidecars: Iterable[tuple[str, str, Any]]) -> list[Copy]:
    """The copies on a medium, as their sidecars describe them.

    Each sidecar comes as (resource folder, snapshot folder, the document in it); invalid ones are passed over. Unknown
    fields do no harm. A sidecar does not vouch for its manifest: whoever can replace one can replace the other.
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
            "problems": document.get("problem_count", 0), "adopted": True,
        })
        if copy is not None:
            found.append(copy)
    return found
