"""Snapshots, copies and runs: what the catalog is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from drbdbackup.model.generation import Generation

SAFETY = "safety"  # the purpose of a copy that is no backup
_SNAPSHOT = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class Outcome(Enum):
    """How a run ended."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    HELD = "held"
    STOOD_DOWN = "stood-down"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Copy:
    """One snapshot on one target. Times are aware, in UTC; `bytes` is the apparent size of all regular files.

    `sequence` orders snapshots of a resource over all nodes (clocks differ). `medium` is the identity (`target.json`)
    of the target that holds it; `location` names it for people (`www5:/dev/sdb1`, `nas:/backup`); `holder` is the node
    whose own disk holds it, "" for a shared target. `generation` is DRBD's, None where nobody told it. `purpose` is
    "safety" for what a restore in place keeps of the volume that it goes over, "" for a backup.
    """

    snapshot: str
    resource: str
    sequence: int
    node: str
    target: str
    kind: str
    medium: str
    location: str
    holder: str
    path: str
    started_at: datetime
    finished_at: datetime
    files: int
    bytes: int
    problems: int = 0
    verified_at: datetime | None = None
    damaged_at: datetime | None = None
    generation: Generation | None = None
    drilled_at: datetime | None = None
    purpose: str = ""


class Reach(Enum):
    """Can a copy be read from here, now?"""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @property
    def as_json(self) -> bool | None:
        """true, false or null, as `latest --json` prints it."""
        return None if self is Reach.UNKNOWN else self is Reach.YES


def snapshot_name(started_at: datetime, node: str, again: int = 1) -> str:
    """`20261123T043000Z-www4`, with `-2` and so on behind it if the name is taken."""
    name = f"{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{node}"
    return name if again < 2 else f"{name}-{again}"


def is_snapshot_name(name: str) -> bool:
    """Whether `name` has the form of a snapshot's name: the gate for whatever comes from a medium or a peer."""
    return _SNAPSHOT.match(name) is not None


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC to the second, as the catalog stores it and `--json` prints it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def from_iso(text: str) -> datetime:
    """The aware UTC time of `iso`'s text; ValueError for anything without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)
