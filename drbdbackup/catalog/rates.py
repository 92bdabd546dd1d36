"""How long it took to read a copy, to bring it back or to make it: facts, so that nobody has to guess at four o'clock.

Only what says something about the whole copy is kept: how long three small files took says nothing about a million.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

from msgspec import Meta, Struct

from drbdbackup.catalog.bodies import subject_of
from drbdbackup.catalog.facts import FACTS, MEASURED, Fact, believed_until, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import Copy, iso
from drbdbackup.model.document_reader import Count, fitting

_ENOUGH = 0.02  # of a copy's bytes
_LONGEST = 1e7  # seconds
_MEASURED = f"{FACTS} WHERE kind = 'measured' AND resource = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 1000"


class Work(Enum):
    """What was done with a copy."""

    RESTORED = "restored"
    VERIFIED = "verified"
    COPIED = "copied"


class Measured(Struct, frozen=True, kw_only=True):
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
    return readable(rows(state_dir, _MEASURED, (resource, iso(believed_until()))), _from)


class _MeasuredBody(Struct, frozen=True, kw_only=True):
    """What a body must have to describe a measurement."""

    work: Work
    medium: str
    files: Count
    bytes: Count
    seconds: Annotated[float, Meta(gt=0, le=_LONGEST)]
    over_ssh: Any = False


def _from(fact: Fact) -> Measured | None:
    """What a fact says, or None: it may be a newer version's, or nonsense."""
    body, at = fitting(_MeasuredBody, fact.body), moment(fact.at)
    if body is None or at is None:
        return None
    return Measured(
        work=body.work, medium=body.medium, node=fact.node, at=at, files=body.files, bytes=body.bytes,
        seconds=body.seconds, over_ssh=body.over_ssh is True,
    )  # fmt: skip
