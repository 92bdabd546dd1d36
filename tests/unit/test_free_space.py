"""What is known last of the room on a medium; nonsense of another node is passed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.catalog import free_space, store
from drbdbackup.catalog.facts import ROOM, fact
from drbdbackup.catalog.free_space import LastRoom

NOW = datetime.now(UTC)
GOOD = {"free": 5, "total": 9, "free_inodes": 3, "links": False}


def told(state: Path, body: dict[str, Any], at: datetime = NOW) -> LastRoom | None:
    store.record(str(state), "www5", [fact("www5", at, ROOM, "", "m", body)])
    return free_space.on(str(state), "m")


def test_what_was_left_comes_back(tmp_path: Path) -> None:
    for inodes in (None, 12):
        room = LastRoom(at=datetime.now(UTC), free=5, total=9, free_inodes=inodes, links=True)
        store.record(str(tmp_path), "www4", [free_space.left("www4", "m", room)])
        assert free_space.on(str(tmp_path), "m") == room
    assert free_space.on(str(tmp_path), "another") is None


@pytest.mark.parametrize("wrong", [
    {"free": -1}, {"free": True}, {"free": "5"}, {"free": None}, {"total": 4}, {"total": 1 << 62}, {"free_inodes": "3"},
    {"free_inodes": -3},
])  # fmt: skip
def test_nonsense_is_passed_over(tmp_path: Path, wrong: dict[str, Any]) -> None:
    assert told(tmp_path, {**GOOD, **wrong}) is None
    assert told(tmp_path, {**GOOD, "new": "of a newer version"}) is not None


def test_the_newest_counts_and_the_future_not_at_all(tmp_path: Path) -> None:
    for hours, free in ((-3, 3), (-1, 1), (-2, 2), (400, 4)):
        found = told(tmp_path, {**GOOD, "free": free}, NOW + timedelta(hours=hours))
    assert found is not None
    assert (found.free, found.links) == (1, False)
