"""What guards a copy (a cage, symlinks that nobody follows) is gone without only where it cannot be had at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

KILLED = "kill -KILL $$"
NO_MEMORY = "echo 'fork failed: Cannot allocate memory' >&2; exit 1"
REFUSED = "echo 'failed: Operation not permitted' >&2; exit 1"
SILENT = "exit 0"  # a kernel or a mount that does not know the flag and does not say so
GUARDS = {"unshare": "*--mount-proc\\ true", "mount": "*nosymfollow*"}


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    return played


def answers(pair: PlayedPair, guard: str, answer: str) -> None:
    """Let the program that a guard needs answer so when it is asked for the guard, and as ever otherwise."""
    program = pair.folder / "bin" / guard
    program.parent.mkdir()
    real = shutil.which(guard)
    program.write_text(f'#!/bin/sh\ncase "$*" in {GUARDS[guard]}) {answer};; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    pair.path = f"{program.parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("answer", [KILLED, NO_MEMORY])
@pytest.mark.parametrize("guard", GUARDS)
def test_nothing_is_copied_unguarded_because_of_a_moment(
    pair: PlayedPair, guard: str, answer: str
) -> None:
    answers(pair, guard, answer)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "killed by signal 9" in ended.stderr or "Cannot allocate memory" in ended.stderr
    assert list((pair.folder / "nas").rglob("index.php")) == []
    pair.path = ""
    pair.backs_up()


@pytest.mark.parametrize(
    ("guard", "answer", "told"),
    [("unshare", REFUSED, "no namespaces can be had"), ("mount", REFUSED, "symlinks"), ("mount", SILENT, "symlinks")],
)
def test_where_a_guard_cannot_be_had_the_copy_is_made_and_says_so(
    pair: PlayedPair, guard: str, answer: str, told: str
) -> None:
    answers(pair, guard, answer)
    ended = pair.run("www4", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    notes = json.loads(ended.stdout)["runs"][0]["targets"][0]["notes"]
    assert any(told in note for note in notes), ended.stdout
    assert len(pair.copies(target="nas")) == 1


@pytest.mark.parametrize("guard", GUARDS)
def test_a_restore_over_the_volume_waits_for_its_guard(
    pair: PlayedPair, guard: str
) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt")
    answers(pair, guard, KILLED)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 6, ended.stderr
    assert "killed by signal 9" in ended.stderr
    assert (pair.volume / "index.php").read_text() == "spoilt"


@pytest.mark.parametrize("guard", GUARDS)
def test_where_a_guard_cannot_be_had_a_restore_over_the_volume_goes_on(pair: PlayedPair, guard: str) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt")
    answers(pair, guard, REFUSED)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert (pair.volume / "index.php").read_text().startswith("<?php")
