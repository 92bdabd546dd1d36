"""What the import contracts cannot say: jobs are known to their registry only, a class has its name for itself, and a
value of many fields is made by their names."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache

from drbdbackup.pipeline.cage import registry
from tests.parsed import NAMES, trees

JOBS = {name.removesuffix(".py").replace("/", ".") for name in NAMES if name.endswith("_job.py")}


@cache
def classes() -> list[ast.ClassDef]:
    return [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_nothing_imports_a_job() -> None:
    """What a cage runs is called `*_job.py`, and the worker finds it by the registry.

    Whatever is of use elsewhere, too, does not belong there.
    """
    importing = {
        name: node.lineno
        for name, tree in trees().items() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        for end in ("", *(f".{alias.name}" for alias in node.names)) if f"{node.module}{end}" in JOBS
    }  # fmt: skip
    assert importing == {}


def test_the_registry_knows_every_job_and_nothing_else() -> None:
    assert {f"drbdbackup.pipeline.{module}" for module in registry.JOBS.values()} == JOBS
    assert len(set(registry.JOBS.values())) == len(registry.JOBS)


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(node.name for node in classes())
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []


def test_a_value_of_more_than_six_fields_is_made_by_their_names() -> None:
    """Two texts that changed places are no mistake to mypy. `kw_only` counts for a class's own fields, not for
    those that it inherits.
    """
    known = {node.name: node for node in classes()}
    large = [value for value in (lineage(name, known) for name in known) if sum(len(own(node)) for node in value) > 6]
    assert len(large) > 50
    by_position = {node.name for value in large for node in value if own(node) and not keyword_only(node)}
    assert by_position == set()


def lineage(name: str, known: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The class and those of our classes that it comes from, if it is a value; else nothing."""
    if name not in known:
        return []
    above = [ast.unparse(base) for base in known[name].bases]
    inherited = [node for base in above for node in lineage(base, known)]
    return [known[name], *inherited] if inherited or {"Struct", "NamedTuple"} & {*above} else []


def own(value: ast.ClassDef) -> list[ast.AnnAssign]:
    return [line for line in value.body if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line)]


def keyword_only(value: ast.ClassDef) -> bool:
    return any(ast.unparse(keyword) == "kw_only=True" for keyword in value.keywords)
