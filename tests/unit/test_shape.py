"""The program keeps its shape: layers, types, one door for each outside thing, and a start that is instant."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from msgspec.structs import fields

from drbdbackup.config.target_kinds import TARGET_KINDS
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import Cancelled, tree
from drbdbackup.targets import ENGINES
from tests.parsed import NAMES, ROOT, trees

HEAVY = {
    "rich", "sh", "croniter", "sqlite_utils", "pathspec", "xxhash", "jinja2", "textual", "prometheus_client", "apprise",
    "pygal",
}  # fmt: skip
# All that they do is done with rich, textual, prometheus_client or pygal.
DRAWING = {
    "drbdbackup.report.progress", "drbdbackup.report.browse_screen", "drbdbackup.report.full_screen",
    "drbdbackup.report.watch_screen", "drbdbackup.report.monitoring.metrics",
    "drbdbackup.report.html.plots",
}  # fmt: skip
# The errors of a signal, and all that they are.
SIGNALLED = {*(one.__name__ for one in (*tree(Cancelled), *Cancelled.__mro__)), "Cancelled"} - {"object"}
STARTS = {
    "fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "startfile", "system",
    *(f"exec{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"spawn{kind}" for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}  # fmt: skip


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


def goes_on_after_a_signal(tree: ast.AST) -> set[str]:
    """The functions that catch a signal's error and do not always end in raising one."""
    found = set()
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and raises_it_again(node.body[-1]):
                continue
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught = ast.Tuple(node.args)
            elif isinstance(node, ast.ExceptHandler) and caught is None:
                caught = ast.Name("BaseException")
            if caught is not None and {one.id for one in ast.walk(caught) if isinstance(one, ast.Name)} & SIGNALLED:
                found.add(function.name)
    return found


def raises_it_again(statement: ast.stmt) -> bool:
    """Whether it ends in an error of the same kind, or of quite another: never in a broader one of a signal's."""
    if not isinstance(statement, ast.Raise):
        return False
    called = statement.exc.func if isinstance(statement.exc, ast.Call) else None
    return not (isinstance(called, ast.Name) and called.id in SIGNALLED)


def checked(*argv: str) -> str:
    """What a checker says; it must find nothing. It runs with the Python that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    ended = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, timeout=240, env={**os.environ, "PATH": path, "COLUMNS": "120"}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_every_file_says_why_it_exists() -> None:
    assert len(NAMES) > 1
    assert [name for name in NAMES if not ast.get_docstring(trees()[name])] == []


def test_only_proc_starts_processes() -> None:
    importing = {name for name, tree in trees().items() if imported(list(ast.walk(tree))) & {"sh", "subprocess", "pty"}}
    assert importing == {"drbdbackup/proc/running.py"}
    calling = {
        name for name, tree in trees().items() for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in STARTS
        and isinstance(node.value, ast.Name) and node.value.id == "os"
    }  # fmt: skip
    assert all(name.startswith("drbdbackup/proc/") for name in calling), calling


def dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def drawing(tree: ast.AST) -> set[str]:
    """The modules that draw which this imports when it is imported."""
    nodes = at_import(tree)
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {
        f"{node.module}{end}" for node in nodes if isinstance(node, ast.ImportFrom)
        for end in ("", *(f".{alias.name}" for alias in node.names))
    }  # fmt: skip
    return (plain | named) & DRAWING


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    found = {name: imported(at_import(trees()[name])) & HEAVY for name in NAMES if dotted(name) not in DRAWING}
    assert {name: heavy for name, heavy in found.items() if heavy} == {}


def test_what_draws_with_rich_is_imported_where_somebody_watches() -> None:
    found = {name: drawing(trees()[name]) for name in NAMES if dotted(name) not in DRAWING}
    assert {name: modules for name, modules in found.items() if modules} == {}


def test_only_the_table_of_kinds_knows_a_kind_of_target_by_its_name() -> None:
    """What differs between kinds is asked of `TargetConfig`. Elsewhere these words mean something else."""
    elsewhere = {
        "drbdbackup/pair/keys.py": {"nas", "disk"},  # tables of a pair's file
        "drbdbackup/pair/load.py": {"nas", "disk"},
        "drbdbackup/pair/rules.py": {"nas", "disk"},  # names of targets
        "drbdbackup/demo/stage.py": {"nas"},  # a folder
        "drbdbackup/demo/story.py": {"nas"},
        "drbdbackup/proposal.py": {"nas"},  # in the name of a folder
        "drbdbackup/report/documents.py": {"disk"},  # DRBD's
        "drbdbackup/tools/drbd_config.py": {"disk"},
        "drbdbackup/roles/events2.py": {"disk"},
        "drbdbackup/roles/proc_drbd.py": {"disk"},
        "drbdbackup/tools/restic.py": {"restic"},  # the program
        "drbdbackup/errors.py": {"restic"},  # its package
    }
    defined = {
        "drbdbackup/config/target_kinds.py": set(TARGET_KINDS), "drbdbackup/targets/__init__.py": set(TARGET_KINDS),
    }  # fmt: skip
    named = {name: kinds_in(tree) for name, tree in trees().items()}
    assert {name: kinds for name, kinds in named.items() if kinds} == {**elsewhere, **defined}
    compared = {
        name for name, tree in trees().items() for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(kinds_in(one) for one in node.comparators)
    }  # fmt: skip
    assert compared == set(), "also where the word means something else, this is how it creeps in"


def kinds_in(tree: ast.AST) -> set[str]:
    """The kinds of target that are named in quotes."""
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return words & set(TARGET_KINDS)


def test_each_kind_of_target_has_its_keys_and_its_engine() -> None:
    assert set(ENGINES) == set(TARGET_KINDS)
    known = {one.name for one in fields(TargetConfig)}
    for kind in TARGET_KINDS.values():
        assert {*kind.required, kind.address, kind.folder} <= set(kind.keys) <= known


def test_no_signal_is_taken_for_a_failure() -> None:
    """Who catches `Cancelled` and goes on, has ignored a signal. These end the work, or a process."""
    ends = {
        "drbdbackup/cli/app.py": {"_guarded"},
        "drbdbackup/commands/replicate.py": {"_fetched"},  # CalledOff goes on its way before
        "drbdbackup/commands/run.py": {"_attempt"},
        "drbdbackup/commands/scrub.py": {"_turn"},  # CalledOff goes on its way before
        "drbdbackup/pipeline/backup/hooks.py": {"after", "_finish", "_prepare"},
        "drbdbackup/pipeline/backup/run.py": {"_back_up"},
        "drbdbackup/pipeline/cage/worker.py": {"main"},
        "drbdbackup/pipeline/copies/serve_job.py": {"main"},
        "drbdbackup/proc/probing.py": {"_answer"},
        "drbdbackup/proc/spawner.py": {"_be", "_begin", "_do"},
        "drbdbackup/report/browse_screen.py": {"_find", "_look_into"},  # in a thread, which gets no signal
        "drbdbackup/report/watch_screen.py": {"_looked"},
    }  # fmt: skip
    found = {name: goes_on_after_a_signal(tree) for name, tree in trees().items()}
    assert {name: functions for name, functions in found.items() if functions} == ends


def test_the_command_line_starts_without_anything_heavy() -> None:
    loaded = checked(sys.executable, "-c", "import sys, drbdbackup.cli; print(*sys.modules)").split()
    assert "drbdbackup.cli" in loaded
    assert set(loaded) & {*HEAVY, "typer", "click", "asyncio", "sqlite3"} == set()


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
