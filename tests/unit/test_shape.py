"""The program keeps its shape: sizes, layers, types, one door for each outside thing, and a start that is instant."""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "drbdbackup"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(file.relative_to(ROOT)) for file in FILES]
TREES = {name: ast.parse(file.read_bytes(), name) for name, file in zip(NAMES, FILES, strict=True)}

LINES_OF_A_FILE, LINES_OF_A_FUNCTION, MEDIAN_OF_FUNCTIONS = 300, 40, 12
HEAVY = {"rich", "sh", "croniter", "sqlite_utils", "pathspec", "xxhash", "jinja2", "textual"}
# All that they do is done with rich or textual.
DRAWING = {"drbdbackup.report.progress", "drbdbackup.report.tables", "drbdbackup.report.browsing"}
STARTS = {
    "fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "startfile", "system",
    *(f"exec{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"spawn{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}  # fmt: skip


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def imported(nodes: list[ast.AST]) -> set[str]:
    """The packages that these statements import."""
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in plain | named}


def at_import(tree: ast.AST) -> list[ast.AST]:
    """Every statement that runs when the module is imported: no function's body, and nothing for the checker only."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not for_types(node):
            found += [node, *at_import(node)]
    return found


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def checked(*argv: str) -> str:
    """What a checker says; it must find nothing. It runs with the Python that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    ended = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=240, env={**os.environ, "PATH": path, "COLUMNS": "120"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_file_fits_on_a_few_pages_and_says_why_it_exists(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_FILE
    assert ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_function_fits_on_a_page(name: str) -> None:
    assert {node.name: length(node) for node in functions(TREES[name]) if length(node) > LINES_OF_A_FUNCTION} == {}


def test_most_functions_are_a_dozen_lines_or_fewer() -> None:
    assert statistics.median(length(node) for tree in TREES.values() for node in functions(tree)) <= MEDIAN_OF_FUNCTIONS


def test_only_proc_starts_processes() -> None:
    importing = {name for name, tree in TREES.items() if imported(list(ast.walk(tree))) & {"sh", "subprocess", "pty"}}
    assert importing == {"drbdbackup/proc/running.py"}
    calling = {
        name for name, tree in TREES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in STARTS
        and isinstance(node.value, ast.Name) and node.value.id == "os"
    }  # fmt: skip
    assert all(name.startswith("drbdbackup/proc/") for name in calling), calling


def dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("name", [name for name in NAMES if dotted(name) not in DRAWING])
def test_nothing_heavy_is_imported_before_it_is_used(name: str) -> None:
    assert imported(at_import(TREES[name])) & HEAVY == set()


@pytest.mark.parametrize("name", NAMES)
def test_what_draws_with_rich_is_imported_where_somebody_watches(name: str) -> None:
    nodes = at_import(TREES[name])
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {
        f"{node.module}{end}" for node in nodes if isinstance(node, ast.ImportFrom)
        for end in ("", *(f".{alias.name}" for alias in node.names))
    }  # fmt: skip
    assert (plain | named) & DRAWING == set()


def test_the_command_line_starts_without_anything_heavy() -> None:
    loaded = checked(sys.executable, "-c", "import sys, drbdbackup.cli; print(*sys.modules)").split()
    assert "drbdbackup.cli" in loaded
    assert set(loaded) & {*HEAVY, "asyncio", "sqlite3"} == set()


def test_the_layers_hold() -> None:
    assert " 0 broken" in checked("lint-imports", "--no-cache")


def test_the_types_are_right() -> None:
    checked("mypy")


def test_the_style_is_kept() -> None:
    checked("ruff", "check", "--no-cache", ".")


def test_the_changelog_has_a_place_for_what_is_new() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    assert re.search(r"^### (Added|Changed|Deprecated|Removed|Fixed|Security)$", text, re.MULTILINE)


def test_nothing_is_left_undone_in_the_code() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [name for name in NAMES if words.search((ROOT / name).read_text(encoding="utf-8"))] == []
