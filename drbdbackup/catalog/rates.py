"""How long it took to read a copy, to bring it back or to make it: facts, so that nobody has to guess at four o'clock.

Only what says something about the whole copy is kept: how long three small files took tells nothing of a million.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from drbdbackup.catalog.bodies import is_count, subject_of
from drbdbackup.catalog.facts import MEASURED, Fact, fact, from_row, moment
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import Copy, iso

_ENOUGH = 0.02  # of a copy's bytes
_LONGEST = 1e7  # seconds
_MEASURED = """
SELECT id, node, at, kind, resource, subject, body FROM fact
WHERE kind = 'measured' AND resource = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 1000
"""


class Work(Enum):
    """What was done with a copy."""

    RESTORED = "restored"
    VERIFIED = "verified"
    COPIED = "copied"


@dataclass(frozen=True, slots=True)
class Measured:
    """`files` files of `bytes` bytes took `seconds`, by `node`, on that medium; `over_ssh` if it was at a peer."""

    work: Work
    medium: str
    node: str
    at: datetime
    files: int
    bytes: int
    seconds: float
    over_ssh: bool = False

    def estimate(self, copy: Copy) -> float | None:
        """Seconds for all of a copy at this rate, by its files or its bytes, whichever says more; None for no rate."""
        if not is_enough(copy, self.files, self.bytes):
            return None
        shares = [have / had for have, had in ((copy.files, self.files), (copy.bytes, self.bytes)) if had]
        return self.seconds * max(shares)


def is_enough(copy: Copy, files: int, size: int) -> bool:
    """Whether so many files and bytes (`size`) say anything about all of the copy."""
    return files > 0 and size >= copy.bytes * _ENOUGH


def measured(
    node: str, copy: Copy, work: Work, files: int, size: int, seconds: float, *, over_ssh: bool = False
) -> list[Fact]:  # fmt: skip
    """The fact that so much of a copy took so long until now; none where it says nothing about all of it."""
    if not is_enough(copy, files, size) or not 0 < seconds <= _LONGEST:
        return []
    body = {
        "work": work.value, "over_ssh": over_ssh, "files": min(files, copy.files), "bytes": min(size, copy.bytes),
        "seconds": round(seconds, 3), "medium": copy.medium,
    }  # fmt: skip
    return [fact(node, datetime.now(UTC), MEASURED, copy.resource, subject_of(copy), body)]


def known(state_dir: str, resource: str) -> list[Measured]:
    """The newest 1000 measurements of all nodes, the newest first."""
    until = iso(datetime.now(UTC) + timedelta(days=1))  # a clock that was wrong once must not rule for ever
    found = []
    for row in rows(state_dir, _MEASURED, (resource, until)):
        try:
            one = _from(from_row(row))
        except (TypeError, ValueError, RecursionError):
            continue  # it rotted on our own disk
        if one is not None:
            found.append(one)
    return found


def _from(said: Fact) -> Measured | None:
    """What a fact tells, or None: it may be a newer version's, or nonsense."""
    body, at = said.body, moment(said.at)
    if not isinstance(body, Mapping) or at is None:
        return None
    works = {work.value: work for work in Work}
    medium, seconds = body.get("medium"), body.get("seconds")
    counts = [body.get(name) for name in ("files", "bytes")]
    if body.get("work") not in works or not isinstance(medium, str) or not all(is_count(number) for number in counts):
        return None
    if not _is_length(seconds):
        return None
    return Measured(
        works[body["work"]], medium, said.node, at, body["files"], body["bytes"], float(body["seconds"]),
        body.get("over_ssh") is True,
    )  # fmt: skip


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _LONGEST
