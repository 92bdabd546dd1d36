"""The free space on a medium when its last use ended: a fact, because a disk is mounted only while it is used.

Nothing is decided by it but whether somebody is warned: a run looks at the medium itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from drbdbackup.catalog.facts import FACTS, ROOM, Fact, believed_until, fact, moment, readable
from drbdbackup.catalog.local import rows
from drbdbackup.model.backup import iso
from drbdbackup.model.document_reader import Count, fitting

_ROOM = f"{FACTS} WHERE kind = 'room' AND resource = '' AND subject = ? AND at <= ? ORDER BY at DESC, id DESC LIMIT 10"


class LastRoom(Struct, frozen=True, kw_only=True):
    """What a file system had `at` that time: bytes that are `free` of `total`, inodes that are free (None where it has
    no fixed number of them), and whether unchanged files take no room again there (`links`).
    """

    at: datetime
    free: int
    total: int
    free_inodes: int | None
    links: bool


def left(node: str, medium: str, room: LastRoom) -> Fact:
    """The fact that a medium has so much room left."""
    body = {"free": room.free, "total": room.total, "free_inodes": room.free_inodes, "links": room.links}
    return fact(node, room.at, ROOM, "", medium, body)


class _RoomBody(Struct, frozen=True, kw_only=True):
    """What a body must have to describe the room on a medium."""

    free: Count
    total: Count
    free_inodes: Count | None = None
    links: Any = True


def on(state_dir: str, medium: str) -> LastRoom | None:
    """What is known last of a medium, by whichever node used it; None if nothing is."""
    return next(iter(readable(rows(state_dir, _ROOM, (medium, iso(believed_until()))), _from)), None)


def _from(fact: Fact) -> LastRoom | None:
    body, at = fitting(_RoomBody, fact.body), moment(fact.at)
    if body is None or at is None or body.free > body.total:
        return None
    return LastRoom(
        at=at, free=body.free, total=body.total, free_inodes=body.free_inodes, links=body.links is not False
    )
