"""Snapshots, copies and runs: what the catalog is about.

Values and their names only. Nothing here reads the catalog or a medium.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum

from msgspec import Struct

from drbdbackup.model.generation import Generation

SAFETY = "safety"  # the purpose of a copy that is no backup
_FIRST_YEAR, _LAST_YEAR = 1969, 9998
LONGEST_NAME = 200  # letters: a folder of that name may get another word before it, and still be one
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


class Copy(Struct, frozen=True, kw_only=True):
    """One snapshot on one target. Times are aware, in UTC; `bytes` is the apparent size of all regular files,
    `allocated` that without holes, None where nobody counted it.

    `sequence` orders snapshots of a resource over all nodes (clocks differ). `medium` is the identity (`target.json`)
    of the target that holds it; `location` names it for people (`www5:/dev/sdb1`, `nas:/backup`); `holder` is the node
    whose own disk holds it, "" for a shared target. `generation` is DRBD's, None where it is unknown. `purpose` is
    "safety" for what a restore in place keeps of the volume that it goes over, "" for a backup. `manifest_sha256` is
    that of its packed manifest as the node that made it has recorded it, "" where no node has: 64 hex digits; and
    `sidecar_sha256` that of what its sidecar says. A copy is `adopted` if it is known only from what lies on its
    medium: whoever can write there may have invented it. `pinned_at` and `note` are what people noted on its snapshot.
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
    manifest_sha256: str = ""
    adopted: bool = False
    allocated: int | None = None
    sidecar_sha256: str = ""
    pinned_at: datetime | None = None
    note: str = ""

    @property
    def age(self) -> tuple[int, datetime, str]:
        """What makes one newer than another: the sequence, then the start, then the name."""
        return self.sequence, self.started_at, self.snapshot

    @property
    def has_known_manifest(self) -> bool:
        """Whether a node has recorded the digest of its manifest, and so vouches for what that says."""
        return bool(self.manifest_sha256)


def recorded(copies: Sequence[Copy]) -> list[Copy]:
    """The copies that a node says it has made. Those that are adopted decide nothing, unless there is no other."""
    return [copy for copy in copies if not copy.adopted] or list(copies)


def newer_adopted(copies: Iterable[Copy], chosen: Copy) -> Copy | None:
    """The newest copy that is passed over for `chosen` only because nothing but its own medium names it."""
    unsigned = [copy for copy in copies if copy.adopted and copy.damaged_at is None and not chosen.adopted]
    newer = [copy for copy in unsigned if copy.age > chosen.age]
    return max(newer, key=lambda copy: copy.age, default=None)


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


def may_be_by(node: str, snapshot: str) -> bool:
    """Whether a snapshot's name names this node as its maker: `20261123T043000Z-db-2` may be by db or db-2."""
    named = snapshot.partition("-")[2]
    return named == node or (named.startswith(f"{node}-") and named[len(node) + 1 :].isdecimal())


def is_snapshot_name(name: str) -> bool:
    """Whether `name` has the form of a snapshot's name: the gate for whatever comes from a medium or a peer."""
    return len(name) <= LONGEST_NAME and _SNAPSHOT.match(name) is not None


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC to the second, as the catalog stores it and `--json` prints it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def from_iso(text: str) -> datetime:
    """The aware UTC time of `iso`'s text; ValueError for anything without a zone, and for what no clock here shows.

    The first and the last years are such, since not every zone has them. Others write these texts.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(f"{text!r} is no time of a backup")
    return moment.astimezone(UTC)
