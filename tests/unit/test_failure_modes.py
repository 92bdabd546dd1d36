"""docs/failure-modes.md: every row of its tables names a test that shows it, and there is that test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^(\|.+\|)\n\|[-|]+\|\n((?:\|.+\|\n)+)", PAGE, re.MULTILINE)
ROWS = [row for _, rows in TABLES for row in rows.splitlines()]


def test_every_table_says_what_shows_it() -> None:
    assert len(TABLES) > 3
    assert {heads.rpartition(" | ")[2] for heads, _ in TABLES} == {"shown by |"}
    assert all(row.count(" | ") == heads.count(" | ") for heads, rows in TABLES for row in rows.splitlines())


def test_every_fault_is_shown_by_a_test_that_is_there() -> None:
    cells = {row: row.rpartition(" | ")[2] for row in ROWS}
    named = {row: re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", cell) for row, cell in cells.items()}
    assert [row for row, tests in named.items() if not tests or len(tests) != cells[row].count("::")] == []
    wanted = {test for tests in named.values() for test in tests}
    texts = {file: (ROOT / "tests" / file).read_text(encoding="utf-8") for file, _ in wanted}
    assert [f"{file}::{name}" for file, name in sorted(wanted) if f"def {name}(" not in texts[file]] == []


def test_the_readme_has_no_figures_of_a_test_run() -> None:
    """They were true once, on one machine."""
    assert "a run after every event" in " ".join(README.split())
    assert re.findall(r"\d+ (?:passed|faults|backups lost)|in \d+\.\d+ ?s\b", README) == []
