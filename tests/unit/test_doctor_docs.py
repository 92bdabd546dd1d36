"""docs/doctor.md tells of every item that the doctor has, and of no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
BY_NAME = {"same haresources", "same authkeys", "same resource NAME"}  # `same` and what it is called


def items() -> set[str]:
    """The first argument of each `Check(...)`."""
    trees = [ast.parse(file.read_bytes()) for file in (ROOT / "drbdbackup/doctor").glob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Check"]
    return {str(arg.value) for arg in named if isinstance(arg, ast.Constant)}


def test_every_item_has_its_row() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == items() | BY_NAME
