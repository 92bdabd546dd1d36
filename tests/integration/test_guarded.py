"""What guards a copy (a cage, symlinks that nobody follows) is gone without only where it cannot be had at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts want root")

KILLED = "kill -KILL $$"
ITS_CHILD_KILLED = "echo 'unshare: sigprocmask unblock failed: Invalid argument' >&2; exit 1"  # as unshare 2.38 says it
NO_MEMORY = "echo 'fork failed: Cannot allocate memory' >&2; exit 1"
REFUSED = "echo 'failed: Operation not permitted' >&2; exit 1"
SILENT = "exit 0"  # a kernel or a mount that does not know the flag and does not say so
GUARDS = {"unshare": "*--mount-proc\\ true", "mount": "*nosymfollow*"}


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    return played


def answers(pair: PlayedPair, guard: str, answer: str, *, times: int = 1000, after: int = 0) -> None:
    """Let the program that a guard needs answer so when it is asked for the guard: so many `times`, `after` some."""
    program, asked = pair.folder / "bin" / guard, pair.folder / "asked"
    program.parent.mkdir()
    real = shutil.which(guard)
    program.write_text(f"""#!/bin/sh
case "$*" in {GUARDS[guard]})
	echo >>{asked}
	number=$(wc -l <{asked})
	if [ "$number" -gt {after} ] && [ "$number" -le {after + times} ]; then {answer}; fi;;
esac
exec {real} "$@"
""")
    program.chmod(0o755)
    pair.path = f"{program.parent}:{os.environ['PATH']}"


def notes(pair: PlayedPair) -> list[str]:
    """What a run says of its copy."""
    ended = pair.run("www4", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    return list(json.loads(ended.stdout)["runs"][0]["targets"][0]["notes"])


def test_a_copy_is_guarded(pair: PlayedPair) -> None:
    assert notes(pair) == []


def test_a_volume_that_a_symlink_leads_to_is_guarded(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert notes(PlayedPair(tmp_path / "link")) == []


@pytest.mark.parametrize(
    ("guard", "answer"),
    [
        ("unshare", KILLED), ("unshare", ITS_CHILD_KILLED), ("unshare", NO_MEMORY),
        ("mount", KILLED), ("mount", NO_MEMORY),
    ],
)
def test_nothing_is_copied_unguarded_because_of_a_moment(pair: PlayedPair, guard: str, answer: str) -> None:
    answers(pair, guard, answer)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "It is tried again with the next run." in ended.stderr
    assert list((pair.folder / "nas").rglob("index.php")) == []
    pair.path = ""
    pair.backs_up()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_moment_that_passes_costs_nothing(pair: PlayedPair, guard: str) -> None:
    answers(pair, guard, KILLED, times=1)
    assert notes(pair) == []


@pytest.mark.parametrize(
    ("guard", "answer", "told"),
    [("unshare", REFUSED, "no namespaces can be had"), ("mount", REFUSED, "symlinks"), ("mount", SILENT, "symlinks")],
)
def test_where_a_guard_cannot_be_had_the_copy_is_made_and_says_so(
    pair: PlayedPair, guard: str, answer: str, told: str
) -> None:
    answers(pair, guard, answer)
    assert any(told in note for note in notes(pair))
    assert (pair.newest("nas") / "index.php").exists()


@pytest.mark.parametrize("after", [0, 1])  # it is asked for in the look, and then where it is written
def test_a_restore_over_the_volume_waits_for_its_guard(pair: PlayedPair, after: int) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt")
    answers(pair, "mount", KILLED, after=after)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 1, ended.stderr
    assert (pair.folder / "asked").read_text().count("\n") == after + 3
    assert (pair.volume / "index.php").read_text() == "spoilt"


@pytest.mark.parametrize("answer", [REFUSED, SILENT])
def test_where_it_cannot_be_had_a_restore_over_the_volume_goes_on(pair: PlayedPair, answer: str) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt")
    answers(pair, "mount", answer)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert (pair.volume / "index.php").read_text().startswith("<?php")


def test_the_doctor_goes_on_where_it_cannot_look(pair: PlayedPair) -> None:
    pair.resource = 'snapshot = "lvm"\ndevice = "/dev/drbd0"'
    pair.role = 'source = "drbd"'
    answers(pair, "unshare", KILLED)
    ended = pair.run("www4", "doctor", "--json")
    assert any("no cage" in one["because"] for one in json.loads(ended.stdout)["checks"]), ended.stderr
