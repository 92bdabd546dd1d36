"""`.ci/run` believes no command that has not run all of its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.captured import play

CI = Path(__file__).parents[2] / ".ci"
MAKE = """#!/bin/sh
echo "$1" >>{folder}/made
cat "{folder}/$1" 2>/dev/null
! [ -e "{folder}/$1.fails" ]
"""
WELL = {
    "test": "3 passed in 1.23s (0:00:01)\n",
    "lowest": "2 passed in 0.50s\n",
    "package": "2 passed in 60.50s (0:01:00)\n",
    "cluster": "===== 2 passed in 9.87s =====\n",
}


def ended(folder: Path, said: dict[str, str]) -> int:
    """Its exit status where make says this."""
    shutil.copytree(CI, folder / "clone/.ci")
    (folder / "bin").mkdir()
    play(folder / "bin/make", MAKE.format(folder=folder))
    for target, words in said.items():
        (folder / target).write_text(words)
    path = f"{folder}/bin:{os.environ['PATH']}"
    run = subprocess.run([folder / "clone/.ci/run"], env={"PATH": path}, capture_output=True, timeout=30)
    return run.returncode


def made(folder: Path) -> list[str]:
    return (folder / "made").read_text().split()


def test_it_runs_the_demo_and_every_kind_of_tests(tmp_path: Path) -> None:
    assert ended(tmp_path, WELL) == 0
    assert made(tmp_path) == ["demo", "test", "lowest", "package", "cluster"]


@pytest.mark.parametrize("target", ["test", "lowest", "package", "cluster"])
@pytest.mark.parametrize(
    "words",
    ["", "no tests ran in 0.01s\n", "2 passed, 1 skipped in 1.00s\n", "1 failed, 2 passed in 1.00s\n",
     "2 passed, 1 error in 1.00s\n", "2 passed, 1 deselected in 1.00s\n", "1 skipped in 1.00s\n"],
)  # fmt: skip
def test_less_than_all_of_the_tests_fails_it(tmp_path: Path, target: str, words: str) -> None:
    assert ended(tmp_path, {**WELL, target: words}) != 0


@pytest.mark.parametrize("target", ["demo", "test", "lowest", "package", "cluster"])
def test_a_command_that_fails_fails_it_whatever_it_says(tmp_path: Path, target: str) -> None:
    (tmp_path / f"{target}.fails").touch()
    assert ended(tmp_path, WELL) != 0
    assert made(tmp_path)[-1] == target, "nothing is run after it"
