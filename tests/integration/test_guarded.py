"""What guards a copy (a cage, symlinks that nobody follows) is gone without only where it cannot be had at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.config.load import load
from drbdbackup.doctor import lvm
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts want root")

KILLED = "kill -KILL $$"
ITS_CHILD_KILLED = "echo 'unshare: sigprocmask unblock failed: Invalid argument' >&2; exit 1"  # as unshare 2.38 says it
NO_MEMORY = "echo 'fork failed: Cannot allocate memory' >&2; exit 1"
REFUSED = "echo 'unshare failed: Operation not permitted' >&2; exit 1"
SILENT = "exit 0"  # a kernel or a mount that does not know the flag and does not say so
GUARDS = {"unshare": "*--mount-proc\\ true", "mount": "*nosymfollow*", "bind": "*--bind*"}


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    return played


def answers(pair: PlayedPair, guard: str, answer: str, *, times: int = 1000, after: int = 0) -> None:
    """Let the program that a guard needs answer so when it is asked for the guard: so many `times`, `after` some."""
    program, asked = pair.folder / "bin" / guard.replace("bind", "mount"), pair.folder / "asked"
    program.parent.mkdir()
    real = shutil.which(program.name)
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
        ("mount", KILLED), ("mount", NO_MEMORY), ("bind", KILLED),
    ],
)
def test_nothing_is_copied_unguarded_because_of_a_moment(pair: PlayedPair, guard: str, answer: str) -> None:
    answers(pair, guard, answer)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1, ended.stderr
    assert "Try again (a due run does so by itself)." in ended.stderr
    assert list((pair.folder / "nas").rglob("index.php")) == []
    pair.path = ""
    pair.backs_up()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_moment_that_passes_costs_nothing(pair: PlayedPair, guard: str) -> None:
    answers(pair, guard, KILLED, times=1)
    assert notes(pair) == []


@pytest.mark.parametrize(
    ("guard", "answer", "told"),
    [
        ("unshare", REFUSED, "no namespaces can be had"), ("mount", REFUSED, "symlinks"), ("bind", REFUSED, "symlinks"),
        ("mount", SILENT, "symlinks"),
    ],
)
def test_where_a_guard_cannot_be_had_the_copy_is_made_and_says_so(
    pair: PlayedPair, guard: str, answer: str, told: str
) -> None:
    answers(pair, guard, answer)
    assert any(told in note for note in notes(pair))
    assert (pair.newest("nas") / "index.php").exists()


@pytest.mark.parametrize("after", [0, 1, 2])  # it is asked for in two looks, and then where it is written
def test_a_restore_over_the_volume_waits_for_its_guard(pair: PlayedPair, after: int) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt, whole day")
    answers(pair, "mount", KILLED, after=after)
    ended = pair.run("www4", "restore", "--in-place", "--no-safety", "--yes")
    assert ended.returncode == 1, ended.stderr
    assert "half restored" not in ended.stderr
    assert (pair.folder / "asked").read_text().count("\n") == after + 3
    assert (pair.volume / "index.php").read_text() == "spoilt, whole day"
    pair.path = ""
    pair.backs_up()


@pytest.mark.parametrize("answer", [REFUSED, SILENT])
def test_where_it_cannot_be_had_a_restore_over_the_volume_goes_on(pair: PlayedPair, answer: str) -> None:
    pair.backs_up()
    (pair.volume / "index.php").write_text("spoilt, whole day")
    answers(pair, "mount", answer)
    ended = pair.run("www4", "restore", "--in-place", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert (pair.volume / "index.php").read_text().startswith("<?php")


def test_the_doctor_tells_of_it_and_goes_on(pair: PlayedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(pair, "unshare", KILLED)
    ended = pair.run("www4", "doctor", "--json")
    assert "no cage" in {one["check"]: one["because"] for one in json.loads(ended.stdout)["checks"]}["target"]

    pair.resource, pair.role = 'snapshot = "lvm"\ndevice = "/dev/drbd0"', 'source = "drbd"'
    config = load(str(pair.config("www4")))
    monkeypatch.setenv("PATH", pair.path)
    proc.can_cage.cache_clear()
    [found] = lvm.judge(lvm.gather(config, config.resources[0], (), is_at_work=False))
    assert (found.state.value, "no cage" in found.because) == ("fail", True)


def test_a_node_that_stands_by_reads_again_another_night(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.run("www5", "sync")
    answers(pair, "unshare", KILLED)
    ended = pair.run("www5", "run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (pair.folder / "asked").exists()


def test_hooks_for_an_error_run_and_those_before_do_not(pair: PlayedPair) -> None:
    said = pair.folder / "said"
    pair.extra = f'''[resource.raid.hook.tell]
before = ["sh", "-c", "echo before >>{said}"]
on_error = ["sh", "-c", "echo error >>{said}"]'''
    answers(pair, "unshare", KILLED)
    assert pair.run("www4", "run").returncode == 1
    assert said.read_text() == "error\n"
