"""A restore in place that is under way or was interrupted: what of it must be known to go on with it.

It is written down on the replicated volume, so that it fails over with it, and recorded in the catalog. What is read
back comes from a disk: whatever is invalid there is None, and no command is ever taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from msgspec import Struct

from drbdbackup.model.backup import from_iso, is_snapshot_name, iso
from drbdbackup.model.document_reader import fitting

RESUME = "Complete it: `drbdbackup restore --resume`. Or take the volume as it is: `drbdbackup restore --accept`."


class RestoreStage(Enum):
    """How far it came. Only while it is REPLACING is the volume neither what it was nor what it is to be."""

    BEGUN = "begun"
    REPLACING = "replacing"
    RESTORED = "restored"
    ENDED = "ended"


ORDER = tuple(RestoreStage)
_SO_FAR = {
    RestoreStage.BEGUN: "it has replaced nothing",
    RestoreStage.REPLACING: "the volume is half restored",
    RestoreStage.RESTORED: "all is back, only the services were not started",
    RestoreStage.ENDED: "it is over",
}


class Restoring(Struct, frozen=True, kw_only=True):
    """One restore over a volume, by `node`, of `path` ("" for all) from `snapshot`. `safety` is the copy that it kept.

    `snapshot` is "" where what was written down cannot be read: then nobody knows how to go on, only that one has to.
    """

    name: str
    resource: str
    node: str
    stage: RestoreStage
    snapshot: str
    path: str
    begun_at: datetime
    safety: str = ""

    @property
    def is_half(self) -> bool:
        """Whether the volume is not to be backed up, and no service to be started on it."""
        return self.stage is RestoreStage.REPLACING

    @property
    def description(self) -> str:
        """What was begun and how far it came, for people."""
        if not self.snapshot:
            return "a restore in place was not finished, and what is written down of it cannot be read"
        what = f"of {self.path} " if self.path else ""
        return f"a restore {what}from {self.snapshot}, begun on {self.node}, was not finished: {_SO_FAR[self.stage]}"

    def as_document(self) -> dict[str, Any]:
        """As it is written on the volume and recorded in the catalog."""
        return {
            "name": self.name, "resource": self.resource, "node": self.node, "stage": self.stage.value,
            "snapshot": self.snapshot, "path": self.path, "begun_at": iso(self.begun_at), "safety": self.safety,
        }  # fmt: skip


class _RestoringBody(Struct, frozen=True, kw_only=True):
    """What a document must have to describe a restore."""

    name: str
    resource: str
    node: str
    stage: RestoreStage
    snapshot: str
    path: str
    begun_at: str
    safety: str = ""


def from_document(found: Mapping[str, Any]) -> Restoring | None:
    """The inverse of `as_document`; None for what describes no restore."""
    parsed = fitting(_RestoringBody, found)
    if parsed is None or not is_snapshot_name(parsed.snapshot) or not _is_inside(parsed.path):
        return None
    try:
        begun_at = from_iso(parsed.begun_at)
    except (ValueError, OverflowError):
        return None
    return Restoring(
        name=parsed.name, resource=parsed.resource, node=parsed.node, stage=parsed.stage, snapshot=parsed.snapshot,
        path=parsed.path, begun_at=begun_at, safety=parsed.safety,
    )  # fmt: skip


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path
