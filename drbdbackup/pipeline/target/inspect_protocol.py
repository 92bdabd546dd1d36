"""The conversation with the job that looks at a target.

It sends `SidecarRead` for each snapshot, where it is to, and ends with `TargetLook`.
"""

from __future__ import annotations

from typing import Any

from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.protocol import Conversation, JobEvent
from drbdbackup.pipeline.target.target_protocol import TargetJob


class InspectJob(TargetJob, frozen=True, kw_only=True):
    """Say what the target is, with `sidecars` also what lies on it. With `accept` the medium becomes it first."""

    accept: bool
    sidecars: bool


class SidecarRead(JobEvent, frozen=True, tag="snapshot"):
    """A snapshot lies there, and this is its description; nothing in it is believed yet."""

    sidecar: dict[str, Any]


class TargetLook(JobEvent, frozen=True, kw_only=True, tag="done"):
    """What is there now.

    `medium`, `enrolled_at` and `enrolled_by` are "" without a mark; `objection` is "" if it is the expected one.
    `lacks` is what it cannot hold, None if no run has found out. `total_bytes` is 0 where nobody knows the room.
    """

    medium: str
    enrolled_at: str
    enrolled_by: str
    objection: str
    filesystem_uuid: str
    location: str
    holder: str
    root: str
    free_bytes: int
    total_bytes: int
    lacks: tuple[str, ...] | None

    def known_as(self, kind: str) -> KnownMedium:
        """What the catalog is to expect from now on."""
        return KnownMedium(self.medium, self.filesystem_uuid, self.location, kind)


INSPECT: Conversation[InspectJob, SidecarRead, TargetLook] = Conversation(
    "inspect", InspectJob, TargetLook, SidecarRead
)
