"""What the import contracts cannot say: jobs are known to their registry only, a class has its name for itself, and a
value of many fields is made by their names."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from drbdbackup.pipeline.cage import registry

ROOT = Path(__file__).parents[2]
TREES = {
    str(file.relative_to(ROOT)).removesuffix(".py").replace("/", "."): ast.parse(file.read_bytes())
    for file in sorted((ROOT / "drbdbackup").rglob("*.py"))
}
CLASSES = {node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
JOBS = {name for name in TREES if name.endswith("_job")}


def test_nothing_imports_a_job() -> None:
    """What a cage runs is called `*_job.py`, and the worker finds it by the registry.

    Whatever is of use elsewhere, too, does not belong there.
    """
    importing = {
        name: node.lineno for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        for end in ("", *(f".{alias.name}" for alias in node.names)) if f"{node.module}{end}" in JOBS
    }  # fmt: skip
    assert importing == {}


def test_the_registry_knows_every_job_and_nothing_else() -> None:
    assert {f"drbdbackup.pipeline.{module}" for module in registry.JOBS.values()} == JOBS
    assert len(set(registry.JOBS.values())) == len(registry.JOBS)


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


def test_a_value_of_more_than_six_fields_is_made_by_their_names() -> None:
    """Two texts that changed places are no mistake to mypy. `kw_only` counts for a class's own fields, not for
    those that it inherits.
    """
    large = [value for value in (lineage(name) for name in CLASSES) if sum(len(own(node)) for node in value) > 6]
    assert len(large) > 50
    by_position = {node.name for value in large for node in value if own(node) and not keyword_only(node)}
    assert by_position == set()


def lineage(name: str) -> list[ast.ClassDef]:
    """The class and those of our classes that it comes from, if it is a value; else nothing."""
    if name not in CLASSES:
        return []
    above = [ast.unparse(base) for base in CLASSES[name].bases]
    inherited = [node for base in above for node in lineage(base)]
    return [CLASSES[name], *inherited] if inherited or {"Struct", "NamedTuple"} & {*above} else []


def own(value: ast.ClassDef) -> list[ast.AnnAssign]:
    return [line for line in value.body if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line)]


def keyword_only(value: ast.ClassDef) -> bool:
    return any(ast.unparse(keyword) == "kw_only=True" for keyword in value.keywords)
