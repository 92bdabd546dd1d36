"""What is started is heard only so far, and what does not listen stops nobody."""

from __future__ import annotations

import os
import queue
import resource
import signal
import time
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.errors import Terminated, ToolError, ToolMissing, ToolTimedOut


def test_a_program_that_says_too_much_is_ended() -> None:
    with pytest.raises(ToolError, match=r"yes said more than 1,000,000 bytes"):
        proc.run(proc.Command(argv=("yes",), most=1_000_000))


@pytest.mark.parametrize("start", ["run", "start", "start_piped"])
def test_a_program_that_others_feed_brings_no_node_down(tmp_path: Path, start: str) -> None:
    """It ends, or says so, at the memory and the file that it may have."""
    for fed, limits in (
        (f"head -c 100M /dev/zero >{tmp_path}/fed", {"largest_file": 1 << 20}),
        ("dd if=/dev/zero of=/dev/null bs=200M count=1", {"memory": 64 << 20}),
    ):
        script = f"({fed}); test $? = 0"  # in a process that it forks at once
        command = proc.Command(argv=("sh", "-c", script), ok=frozenset(range(256)), **limits)
        if start == "run":
            status: int | None = proc.run(command).exit
        elif start == "start":
            status = proc.start(command, str(tmp_path / "out")).wait(20)
        else:
            status = proc.start_piped(command, lambda _: None).wait(20)
        assert status == 1
    assert (tmp_path / "fed").stat().st_size <= 1 << 20


def test_what_a_program_complains_of_is_kept_only_at_its_end() -> None:
    told = proc.run(proc.Command(argv=("sh", "-c", "head -c 10000000 /dev/zero >&2; echo end >&2; echo answer")))
    assert told.out == b"answer\n"
    assert told.err.endswith(b"end\n")
    assert len(told.err) < 1 << 20


def test_lines_go_both_ways_and_the_last_words_of_complaint_are_kept() -> None:
    heard: queue.Queue[str] = queue.Queue()
    script = 'for i in $(seq 100); do echo "no. $i" >&2; done; read -r line; echo "heard $line"; cat >/dev/null; exit 7'
    talking = proc.start_piped(proc.Command(argv=("sh", "-c", script)), heard.put)
    talking.write("ü")
    assert heard.get(timeout=10) == "heard ü\n"
    assert talking.wait(0.05) is None
    talking.close_input()
    assert talking.wait(10) == 7
    end = time.monotonic() + 10
    while list(talking.stderr)[-1:] != ["no. 100\n"]:
        assert time.monotonic() < end, talking.stderr
        time.sleep(0.01)
    assert len(talking.stderr) < 100


@pytest.mark.parametrize("start", ["start", "start_piped"])
def test_a_line_without_end_takes_no_memory(tmp_path: Path, start: str) -> None:
    """A peer can have ssh print one through an rsync here."""
    command = proc.Command(argv=("sh", "-c", "head -c 200M /dev/zero >&2; echo; echo end >&2; exit 7"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if start == "start":
        running = proc.start(command, str(tmp_path / "out"))
        assert running.wait(60) == 7
        running.await_output()
    else:
        running = proc.start_piped(command, lambda _: None)
        assert running.wait(60) == 7
        running.await_output(10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
    assert len("".join(running.stderr)) < 100_000


def test_a_program_that_does_not_read_stops_nobody() -> None:
    talking = proc.start_piped(proc.Command(argv=("sleep", "60")), lambda line: None)
    talking.write("x" * 1_000_000)
    assert talking.end(grace=5.0)
    assert talking.wait(0) == -signal.SIGTERM
    assert not talking.has_processes()


def test_a_look_that_may_be_abandoned_holds_nothing_that_somebody_waits_for() -> None:
    """A pipe from us ends when we do, whatever a process in the kernel's hands still has open."""
    read, write = os.pipe()
    looked = proc.probe(lambda: {number: os.readlink(f"/proc/self/fd/{number}") for number in open_files()}, 30, "it")
    os.close(write)
    assert [looked.pop(number) for number in ("0", "1", "2")] == [os.devnull] * 3
    assert len(looked) == 1, "only where its answer goes"
    assert os.read(read, 1) == b""
    os.close(read)


def open_files() -> list[str]:
    """Of this process, without what listing them takes."""
    numbers = os.listdir("/proc/self/fd")
    return [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]


def test_a_program_that_must_not_be_killed_comes_to_its_end_though_we_are_ended(tmp_path: Path) -> None:
    script = f"touch {tmp_path}/begun; sleep 0.5; touch {tmp_path}/ended"
    command = proc.Command(argv=("sh", "-c", script), timeout=30.0, is_whole=True)

    def stop(signum: int, _frame: object) -> None:
        raise Terminated("stopped")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Terminated):
            proc.run(command)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "ended").exists()


def test_after_its_time_such_a_program_is_told_to_end_and_not_killed(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/told; exit 0' TERM; while :; do sleep 0.05; done"
    with pytest.raises(ToolTimedOut):
        proc.run(proc.Command(argv=("sh", "-c", script), timeout=0.5, is_whole=True))
    assert (tmp_path / "told").exists()


def test_a_program_in_the_working_folder_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "rsnyc"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in (".", "", "bin:.", "./"):
        monkeypatch.setenv("PATH", path)
        assert proc.find("rsnyc") is None
    monkeypatch.setenv("PATH", f".:{tmp_path}")
    assert proc.find("rsnyc") == str(program)


def test_a_script_that_may_not_be_executed_is_not_called_missing(tmp_path: Path) -> None:
    script = tmp_path / "role"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(ToolMissing) as caught:
        proc.run(proc.Command(argv=(str(script),)))
    assert caught.value.hint == f"chmod +x {script}"
