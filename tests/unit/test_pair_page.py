"""docs/pair.md is typed in the lab: what is left out there, and which scenario covers what, is as it is told."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.cluster import manual
from tests.cluster.test_upgrade import NEWER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pair.md").read_text(encoding="utf-8")
COVERED = {"DRBD", "Heartbeat", "virtual address", "moved services", "backup", "cron", "log"}


def scenarios() -> set[str]:
    """Every test of tests/cluster, as `file::test`."""
    found = set()
    for file in (ROOT / "tests/cluster").glob("test_*.py"):
        functions = [node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)]
        found |= {f"{file.name}::{function.name}" for function in functions if function.name.startswith("test_")}
    return found


def test_only_the_packages_are_not_installed_as_the_page_says_and_the_guests_have_them() -> None:
    left_out = [line for block in manual.blocks("pair.md") if manual.is_left_out(block) for line in block.splitlines()]
    assert {words for line in left_out for words in manual.LEFT_OUT if line.startswith(words)} == set(manual.LEFT_OUT)
    named = {name for line in left_out for name in line.removeprefix("apt install ").split()}
    assert named <= set((ROOT / "tests/cluster/guest/packages").read_text().splitlines())


def test_every_other_block_is_typed_in_the_lab_in_its_order() -> None:
    tree = ast.parse((ROOT / "tests/cluster/pair.py").read_bytes())
    calls = sorted((node for node in ast.walk(tree) if is_typing(node)), key=lambda call: call.lineno)
    typed = [ast.literal_eval(call.args[0]) for call in calls]
    ahead = manual.Manual().ahead
    assert len(typed) == len(ahead)
    assert [block for block, words in zip(ahead, typed, strict=True) if not block.startswith(words)] == []


def is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "manual.type"


def test_each_part_of_the_pair_is_covered_by_a_scenario_that_exists() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| ((?:`test_\w+\.py::test_\w+`(?:, )?)+) \|$", PAGE, re.MULTILINE)
    assert {part for part, _ in rows} == COVERED
    named = {name for _, told in rows for name in re.findall(r"`([^`]+)`", told)}
    assert named - scenarios() == set()


def test_the_newer_version_of_the_lab_can_be_made_of_this_one() -> None:
    """Its changes are made to the text of the code: a scenario is told in a second that it has to change, too."""
    for name, (now, _) in NEWER.items():
        assert (ROOT / "drbdbackup" / name).read_text().count(now) == 1, name
