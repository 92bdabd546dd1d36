"""Scrubs: which part of what lies on a medium was read again and found well, of which of its copies, and what is next.

A part holds the same paths in every copy, so that a file that copies share is read once; all parts of a round make
everything. How far a round is, is in the facts: whichever node stands by goes on where the last one stopped.

It never reads a medium: the job of a scrub does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import dropwhile, takewhile
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.bodies import is_count
from drbdbackup.catalog.facts import FACTS, SCRUBBED, Fact, believed_until, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso
from drbdbackup.model.document_reader import Count, fitting

_SCRUBS = f"{FACTS} WHERE kind = 'scrubbed' AND resource = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 500"
_MOST_PARTS = 1000


class Scrub(Struct, frozen=True, kw_only=True):
    """Of `snapshots` on `medium`, `part` of `of` was read: `files` files of `bytes` bytes, well.

    `turn` counts up on each medium, for clocks differ. `left` is where to go on, None if the part is done: a snapshot,
    and how many entries of its manifest were looked at. `node` has read it ("" in one that is not a fact yet).
    """

    medium: str
    resource: str
    turn: int
    part: int
    of: int
    at: datetime
    snapshots: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    left: tuple[str, int] | None = None
    node: str = ""


class Turn(Struct, frozen=True):
    """What is to be read next on a medium: `part`, without the snapshots that are `done`; see `Scrub`.

    `before` is what was `left` when the part before was not done in one night, else 0.
    """

    number: int
    part: int
    done: frozenset[str] = frozenset()
    left: tuple[str, int] | None = None
    before: int = 0


def scrubbed(node: str, scrub: Scrub) -> Fact:
    """The fact of a scrub by `node`."""
    body = {
        "turn": scrub.turn, "part": scrub.part, "of": scrub.of, "snapshots": list(scrub.snapshots),
        "files": scrub.files, "bytes": scrub.bytes, "left": list(scrub.left) if scrub.left else None,
    }  # fmt: skip
    return fact(node, scrub.at, SCRUBBED, scrub.resource, f"{scrub.medium}/{scrub.resource}", body)


class _ScrubBody(Struct, frozen=True, kw_only=True):
    """What a body must have to describe a scrub."""

    turn: Count
    part: Count
    of: Count
    snapshots: list[Any]
    files: Count
    bytes: Count
    left: Any = None


def scrub_from(fact: Fact) -> Scrub | None:
    """The scrub that a fact describes, or None if it is invalid."""
    body, at, medium = fitting(_ScrubBody, fact.body), moment(fact.at), fact.subject.partition("/")[0]
    if body is None or at is None or not body.part < body.of <= _MOST_PARTS:
        return None
    known = tuple(name for name in body.snapshots if isinstance(name, str))
    return Scrub(
        medium=medium,
        resource=fact.resource,
        turn=body.turn,
        part=body.part,
        of=body.of,
        at=at,
        snapshots=known,
        files=body.files,
        bytes=body.bytes,
        left=_left(body.left),
        node=fact.node,
    )


def known(state_dir: str, resource: str) -> list[Scrub]:
    """The newest scrubs of all media, the newest of each first."""
    found = readable(rows(state_dir, _SCRUBS, (resource, iso(believed_until()))), scrub_from)
    return sorted(found, key=lambda one: (one.turn, one.at), reverse=True)


def read_since(scrubs: Sequence[Scrub]) -> dict[tuple[str, str], datetime]:
    """By (medium, snapshot): since when all of a copy was read, part by part. Those with parts unread are left out."""
    parts: dict[tuple[str, str, int], dict[int, datetime]] = {}
    for one in scrubs:
        for snapshot in one.snapshots:
            at = parts.setdefault((one.medium, snapshot, one.of), {})
            at[one.part] = max(one.at, at.get(one.part, one.at))
    since: dict[tuple[str, str], datetime] = {}
    for (medium, snapshot, of), at in parts.items():
        if len(at) == of:
            first = min(at.values())
            since[medium, snapshot] = max(first, since.get((medium, snapshot), first))
    return since


def next_turn(scrubs: Sequence[Scrub], medium: str, of: int) -> Turn:
    """What comes after these, where all is read in `of` parts: what was left, or the next part."""
    own = [one for one in scrubs if one.medium == medium]
    if not own:
        return Turn(1, 0)
    last = own[0]
    if last.of != of:
        return Turn(last.turn + 1, 0)
    if last.left is None:
        return Turn(last.turn + 1, (last.part + 1) % of, before=_before(own, (last.part + 1) % of))
    done: set[str] = set()
    for one in own:
        if (one.part, one.of) != (last.part, of) or (one is not last and one.left is None):
            break
        done.update(one.snapshots)
    return Turn(last.turn + 1, last.part, frozenset(done), last.left, _before(own, last.part))


def _before(newest_first: Sequence[Scrub], part: int) -> int:
    """What was left in the part that was read before this one."""
    earlier = list(dropwhile(lambda one: one.part == part, newest_first))
    last = takewhile(lambda one: (one.part, one.of) == (earlier[0].part, earlier[0].of), earlier)
    return next((one.left[1] for one in last if one.left and one.left[1]), 0)


def _left(value: Any) -> tuple[str, int] | None:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and is_count(value[1]):
        return value[0], value[1]
    return None
