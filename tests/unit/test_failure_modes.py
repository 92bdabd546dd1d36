"""docs/failure-modes.md: every row of its tables names a test that shows it, and there is that test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/failure-modes.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_the_readme_tells_of_as_many_faults_as_there_are() -> None:
    """Each test of the matrix injects one."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/crash"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=True).stdout
    faults = sum(line.startswith("tests/crash/") for line in listed.splitlines())
    assert f"crash matrix: {faults} faults injected, on four kinds of targets; 0 backups lost" in README
