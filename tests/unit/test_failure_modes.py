"""docs/failure-modes.md: every row of its tables names a test that shows it, and there is that test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^(\|.+\|)\n\|[-|]+\|\n((?:\|.+\|\n)+)", PAGE, re.MULTILINE)
ROWS = [row for _, rows in TABLES for row in rows.splitlines()]


def test_every_table_says_what_shows_it() -> None:
    assert len(TABLES) > 3
    assert {heads.rpartition(" | ")[2] for heads, _ in TABLES} == {"shown by |"}
    assert all(row.count(" | ") == heads.count(" | ") for heads, rows in TABLES for row in rows.splitlines())


@pytest.mark.parametrize("row", ROWS, ids=[row[2:40] for row in ROWS])
def test_every_fault_is_shown_by_a_test_that_is_there(row: str) -> None:
    named = re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", row.rpartition(" | ")[2])
    assert named
    assert len(named) == row.rpartition(" | ")[2].count("::")
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"
