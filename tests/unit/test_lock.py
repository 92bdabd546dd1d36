"""The lock is the kernel's: it goes with its holder, and nobody else keeps it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.errors import Locked, StateError
from drbdbackup.lock import held

HOLDER = """
import sys, threading, time
from drbdbackup import proc
from drbdbackup.lock import held
with held(sys.argv[1]{how}:
    {inside}
    print("held", flush=True)
    time.sleep(60)
"""


HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "lock")


@contextmanager
def holder(path: str, inside: str = "pass", how: str = ")") -> Iterator[subprocess.Popen]:
    """Another process that holds the lock."""
    script = HOLDER.format(inside=inside, how=how)
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(10)


def child_of(pid: int) -> int:
    """The one child of a process, once it is there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if found := (thread / "children").read_text().split():
                return int(found[0])
    raise AssertionError("no child was started")


def test_the_second_is_told_who_holds_it_and_since_when(path):
    with holder(path) as other, pytest.raises(Locked) as caught, held(path):
        pass
    assert caught.value.status == 5
    assert re.search(rf"process {other.pid}, since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", caught.value.message)


def test_a_holder_that_is_stopped_is_called_so(path):
    with holder(path) as other:
        other.send_signal(signal.SIGSTOP)
        os.waitpid(other.pid, os.WUNTRACED)
        with pytest.raises(Locked) as caught, held(path):
            pass
        assert f"kill -CONT {other.pid}" in caught.value.hint


def test_a_look_is_waited_for_and_work_is_not(path):
    def take() -> str:
        with held(path):
            return "taken"

    with holder(path, how=", looks=True) as works") as other, ThreadPoolExecutor() as pool:
        second = pool.submit(take)
        with pytest.raises(TimeoutError):
            second.result(0.5)
        other.kill()
        assert second.result(30) == "taken"
    with holder(path, "works()", ", looks=True) as works"), pytest.raises(Locked), held(path):
        pass


def test_a_look_that_is_over_is_not_taken_for_the_next_holder(path):
    with held(path, looks=True):
        pass
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Locked) as caught, held(path):
            pass
    assert "process" not in caught.value.message


def test_two_in_one_process_exclude_each_other_too(path):
    with held(path), pytest.raises(Locked, match=str(os.getpid())), held(path):
        pass


def test_it_can_be_taken_again_when_it_was_given_back(path):
    for _ in range(2):
        with held(path):
            pass


def test_it_is_given_back_when_the_body_fails(path):
    with pytest.raises(RuntimeError), held(path):
        raise RuntimeError
    with held(path):
        pass


def test_a_killed_holder_holds_nothing(path):
    with holder(path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        with held(path):
            pass


def test_what_a_dead_process_left_in_the_file_does_not_matter(path):
    os.makedirs(os.path.dirname(path))
    Path(path).write_text("process 1, since 2025-01-01T00:00:00Z and much more than will be written over it\n")
    with held(path):
        assert re.fullmatch(rf"process {os.getpid()}, since \S+\n", Path(path).read_text())


@pytest.mark.parametrize("start", [
    "proc.start(proc.Command(argv=('sleep', '60')), '/dev/null')",
    "threading.Thread(target=proc.run, args=(proc.Command(argv=('sleep', '60'), timeout=60),)).start()",
    "threading.Thread(target=proc.probe, args=(lambda: time.sleep(60), 60, 'x')).start()",
], ids=["start", "run", "probe"])
def test_a_child_that_outlives_the_holder_does_not_hold_it(path, start):
    with holder(path, inside=start) as other:
        child = child_of(other.pid)
        try:
            other.send_signal(signal.SIGKILL)
            other.wait(10)
            os.kill(child, 0)
            _soon_free(path)
        finally:
            os.kill(child, signal.SIGKILL)


def _soon_free(path: str) -> None:
    """A child that was just forked may not have let go yet."""
    end = time.monotonic() + 10
    while True:
        try:
            with held(path):
                return
        except Locked:
            assert time.monotonic() < end, "the child holds the lock"


def test_a_probe_of_ours_leaves_the_lock_with_us(path):
    script = HOLDER.format(inside="pass", how=")")
    with held(path):
        assert proc.probe(lambda: 1, 10, "a look") == 1
        other = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60)
    assert f"another drbdbackup is running: process {os.getpid()}, since" in other.stderr


def test_the_folder_and_the_file_are_for_root_only(path):
    before = os.umask(0)
    try:
        with held(path):
            assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_folder_of_ours_that_others_could_read_is_closed_to_them(path):
    os.makedirs(os.path.dirname(path), 0o755)
    os.chmod(os.path.dirname(path), 0o755)
    with held(path):
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_the_second_is_told_what_the_first_was_started_for(path, tmp_path):
    program = tmp_path / "drbdbackup"
    program.write_text(HOLDER.format(inside="pass", how=")").replace("sys.argv[1]", "sys.argv[-1]"))
    argv = [sys.executable, str(program), "--config", "some", "prune", "--dry-run", path]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=HERE) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(Locked, match="`drbdbackup prune`, process") as caught, held(path):
                pass
        finally:
            other.kill()
    assert "status" not in caught.value.hint, "which tells nothing of a run under way"


@pytest.mark.parametrize("spoil", [
    lambda folder: (folder / "state").write_text("a file"),
    lambda folder: (folder / "state" / "lock").mkdir(parents=True),
    lambda folder: ((folder / "state").mkdir(), (folder / "state" / "lock").symlink_to("/etc/passwd")),
], ids=["folder is a file", "lock is a folder", "lock is a symlink"])
def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path, path, spoil):
    spoil(tmp_path)
    with pytest.raises(StateError, match=re.escape(path)) as caught, held(path):
        pass
    assert "state_dir" in caught.value.hint
