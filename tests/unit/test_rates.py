"""What was measured is kept where it says something, and nonsense from another node is passed over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.catalog import rates, store
from drbdbackup.catalog.facts import MEASURED, fact
from drbdbackup.catalog.rates import Work
from tests.unit.test_exposure import a_copy

COPY = a_copy(1, 2)
GOOD = {"work": "restored", "over_ssh": True, "files": 10, "bytes": 20, "seconds": 1.5, "medium": "nas-"}


def told(state: Path, body: dict[str, Any], at: datetime | None = None) -> list[rates.Measured]:
    said = fact("www5", at or datetime.now(UTC), MEASURED, "raid", "nas-/raid/x", body)
    store.record(str(state), "www5", [said])
    return rates.known(str(state), "raid")


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    facts = rates.measured("www4", COPY, Work.VERIFIED, 1500, 2 << 30, 12.3456)
    assert store.record(str(tmp_path), "www4", facts) == 1
    [one] = rates.known(str(tmp_path), "raid")
    assert (one.work, one.medium, one.node, one.seconds, one.over_ssh) == (Work.VERIFIED, "nas-", "www4", 12.346, False)
    assert (one.files, one.bytes) == (COPY.files, COPY.bytes), "no more than there is"
    assert rates.known(str(tmp_path), "other") == []


@pytest.mark.parametrize(("files", "size", "seconds"), [
    (0, 1 << 30, 1.0), (5, 1 << 20, 1.0), (5, 1 << 30, 0.0), (5, 1 << 30, -3.0), (5, 1 << 30, 1e9),
])  # fmt: skip
def test_what_says_nothing_is_not_kept(files: int, size: int, seconds: float) -> None:
    assert rates.measured("www4", COPY, Work.COPIED, files, size, seconds) == []


@pytest.mark.parametrize("wrong", [
    {"work": "guessed"}, {"work": None}, {"work": []}, {"files": -1}, {"files": True}, {"bytes": "20"},
    {"seconds": 0}, {"seconds": "1"}, {"seconds": True}, {"seconds": 1e300}, {"medium": 7},
])  # fmt: skip
def test_nonsense_is_passed_over(tmp_path: Path, wrong: dict[str, Any]) -> None:
    assert told(tmp_path, {**GOOD, **wrong}) == []
    [one] = told(tmp_path, {**GOOD, "new": "of a newer version"})
    assert one.over_ssh is True


def test_the_newest_comes_first_and_the_future_not_at_all(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for hours in (-3, -1, -2, 400):
        found = told(tmp_path, {**GOOD, "seconds": 10 + hours}, now + timedelta(hours=hours))
    assert [one.seconds for one in found] == [9, 8, 7]
