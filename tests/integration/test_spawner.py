"""Cages are forked from one process, which keeps nothing of ours and takes them along when it ends."""

from __future__ import annotations

import gc
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from drbdbackup import lock, proc
from drbdbackup.errors import Interrupted, Killed, ToolError
from drbdbackup.model.mount import MountIdentity
from drbdbackup.pipeline.cage.protocol import NodeFacts
from drbdbackup.pipeline.cage.supervisor import Cage, Event, Patience, run_job
from drbdbackup.pipeline.volume.source_protocol import WALK, WalkJob
from drbdbackup.proc.caging import Caged, Job
from drbdbackup.proc.piped_process import PipedProcess
from tests.descent import family
from tests.played_media import PATIENCE, disk, share, stopped, tool, wait_for
from tests.played_pair import PlayedPair
from tests.played_site import caged
from tests.played_volume import is_free, on_a_device, on_a_slow_nas, under_way

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces want root")


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    return played


def test_a_cage_executes_no_program(pair: PlayedPair) -> None:
    pair.backs_up()
    told = pair.folder / "executed"
    pair.under = ("strace", "--follow-forks", "--seccomp-bpf", "-o", str(told), "-e", "trace=execve")
    pair.backs_up()
    executed = [line.split('"')[1] for line in told.read_text().splitlines() if "execve(" in line]
    assert executed[0] == sys.executable
    assert not {"python", "python3", "setpriv", "unshare"} & {os.path.basename(path) for path in executed[1:]}


LEAVES_NOTHING = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # whatever outlives its parent is ours
os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
left = open(f"/proc/self/task/{os.getpid()}/children").read().split()
stats = [open(f"/proc/{pid}/stat").read() for pid in left]
sys.exit([stat for stat in stats if stat.rpartition(")")[2].split()[0] != "Z"] or 0)
"""


def test_nothing_is_left_at_the_end_of_a_run(pair: PlayedPair) -> None:
    """Of a service systemd would kill it, and write so into the journal each night."""
    pair.under = (sys.executable, "-c", LEAVES_NOTHING)
    pair.backs_up()


def test_a_job_that_wants_too_much_memory_fails_alone_and_a_program_may_have_what_it_wants(
    pair: PlayedPair, tmp_path: Path
) -> None:
    pair.add_share("second")
    os.link(pair.volume / "index.php", pair.volume / "same.php")  # for rsync
    limits, programs = tmp_path / "limits", tmp_path / "bin"
    programs.mkdir()
    its = f"its=$(timeout 9 sh -c 'until grep -q {4 << 30} /proc/'$PPID'/limits; do :; done' && echo bound)"
    noted = f"echo $its $(grep 'Max data size' /proc/self/limits) >> {limits}"  # in one piece: two rsyncs write there
    (programs / "rsync").write_text(f'#!/bin/sh\n{its}\n{noted}\nexec {proc.find("rsync")} "$@"\n')
    (programs / "rsync").chmod(0o755)
    pair.path = f"{programs}:{os.environ['PATH']}"
    pair.backs_up()
    words = limits.read_text().splitlines()[-1].split()
    assert (words[0], words[4]) == ("bound", "unlimited")
    pair.path = ""

    planted = pair.newest("nas").parent.with_name("20991231T000000Z-www4")
    planted.mkdir()
    (planted / "snapshot.json").write_bytes(b"[" + b"{}," * (1_390_000) + b"{}]")
    pair.under = ("prlimit", f"--data={120 << 20}")
    [run] = pair.json("www4", "run", status=3)["runs"]
    failed = {one["target"]: one["error"] and one["error"]["code"] for one in run["targets"]}
    assert failed == {"nas": "process.memory", "second": None}


def test_what_is_left_of_a_killed_run_that_hangs_holds_neither_its_lock_nor_its_streams(pair: PlayedPair) -> None:
    """Its processes may hang in the kernel: nobody is to wait for them."""
    pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/nas"'
    held = str(pair.folder / "state-www4/lock")
    with share(pair.folder / "nas", pair.folder / "behind") as served, stopped(served):
        run = subprocess.Popen(pair.command("www4", "run"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(lambda: caged(run, "copy"), "the copy")
        assert lock.is_held(held)
        ours = set(family(run.pid))
        spawner = spawner_of(run.pid)
        opened = {os.readlink(file) for file in Path(f"/proc/{spawner}/fd").iterdir()}
        assert {path for path in opened if path.startswith("/")} == {os.devnull}
        run.kill()
        assert run.stdout is not None
        assert run.stdout.read() == b""
        run.wait()
        wait_for(lambda: not lock.is_held(held), "the lock")
    wait_for(lambda: not any(is_alive(pid) for pid in ours), "the processes to be gone")


def test_a_spawner_that_is_killed_is_an_error_of_its_cages_and_the_next_cage_has_another() -> None:
    events: queue.Queue[Event] = queue.Queue()
    first, second = (Cage(name, WALK, events) for name in ("first", "second"))
    pids = [begun(cage) for cage in (first, second)]
    [spawner] = {parent(pid) for pid in pids}
    os.kill(spawner, signal.SIGKILL)
    for cage in (first, second):
        wait_for(lambda cage=cage: cage.check() or cage.ended, "the end")
    told = [events.get_nowait().message for _ in pids]
    assert {type(one.reason) for one in told} == {Killed}
    assert {"dmesg" in one.hint for one in told} == {True}
    third = Cage("third", WALK, events)
    try:
        assert parent(begun(third)) != spawner
        third._running.write("{}")
        assert events.get(timeout=30).message.code == "job.protocol"
    finally:
        third.kill()


def test_a_cage_that_nobody_knows_any_more_ends() -> None:
    """As after a signal in the middle of its start."""
    read, write = os.pipe()
    job = proc.Job("cage: walk", ("drbdbackup.pipeline.cage.worker",), ("walk",))
    cage = Caged(job, (read, write, write), is_caged=True)
    assert cage.begun(PATIENCE)
    pid = cage.pid
    assert is_alive(pid)
    del cage
    wait_for(lambda: not is_alive(pid), "its end")
    os.close(read)
    os.close(write)


def test_signals_to_the_spawner_are_nothing_to_it() -> None:
    """A terminal or an admin who signals all of a run's processes means the one that undoes things in good order."""
    cage = Cage("nas", WALK, queue.Queue())
    spawner = parent(begun(cage))
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(spawner, signum)
    again = Cage("disk", WALK, queue.Queue())
    try:
        assert parent(begun(again)) == spawner
        assert [ids_of(begun(one)) for one in (cage, again)] == [[begun(one), 1] for one in (cage, again)]
        with open(os.devnull, "r+b") as nothing:
            job = Job("outside", ("tests.touching",), (os.devnull,))
            outside = Caged(job, (nothing.fileno(),) * 3, is_caged=False)
        assert outside.begun(PATIENCE)
        assert ids_of(outside.pid) == [outside.pid]
    finally:
        assert cage.kill()
        assert again.kill()


def test_a_spawner_that_hangs_holds_up_no_end_of_its_cages() -> None:
    """Else a failover would wait for it, once per cage."""
    cages = [Cage(name, WALK, queue.Queue()) for name in ("one", "two", "three")]
    pids = [begun(cage) for cage in cages]
    with hanging(parent(pids[0])):
        before = time.monotonic()
        assert all(cage.kill(0.5) for cage in cages)
        assert time.monotonic() - before < 5.0
        assert not any(is_alive(pid) for pid in pids)


def test_a_cage_that_hangs_in_the_kernel_is_no_cage_that_has_ended(tmp_path: Path) -> None:
    """Whoever unmounts what it uses has to know."""
    with disk(tmp_path) as frozen:
        tool("fsfreeze", "--freeze", frozen)
        try:
            cage = touching(frozen / "file")
            wait_for(lambda: cage.has_begun() and state(cage.pid) == "D", "the hang")
            assert not cage.end(0.1)
            assert cage.has_processes()
        finally:
            tool("fsfreeze", "--unfreeze", frozen)
        assert cage.has_ended(PATIENCE)


def test_a_spawner_that_hangs_holds_up_no_failover(tmp_path: Path) -> None:
    """The resource agent asks by SIGUSR1, and then unmounts."""
    with (
        on_a_device(tmp_path) as played, on_a_slow_nas(played),
        share(tmp_path / "more", tmp_path / "behind-more", "--write-rate=4M"),
    ):  # fmt: skip
        played.targets["more"] = f'kind = "nas"\npath = "{tmp_path}/more"'
        with under_way(played) as run, hanging(spawner_of(run.pid)):
            behind = tmp_path / "behind-more"
            names = lambda: [name for _, _, files in os.walk(behind) for name in files]  # noqa: E731
            wait_for(lambda: any("file-" in name for name in names()), "files on the other share")
            before = time.monotonic()
            run.send_signal(signal.SIGUSR1)
            _, said = run.communicate(timeout=PATIENCE)
            assert run.returncode == 7, said
            assert time.monotonic() - before < 3.0
            tool("umount", played.volume)
            assert is_free(played.resource.split('"')[1])


def test_the_exit_status_of_a_cage_whose_spawner_hangs_is_not_waited_for_and_comes_later() -> None:
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage("nas", WALK, events)
    pid = begun(cage)
    with hanging(parent(pid)):
        wait_for(lambda: os.killpg(pid, signal.SIGTERM) or not is_alive(pid), "the end")  # PID 1 may not listen yet
        before = time.monotonic()
        cage.check()
        assert time.monotonic() - before < 1.0
        assert events.empty()
    wait_for(lambda: cage.check() or cage.ended, "the end to be noticed")
    assert f"exited with status {128 + signal.SIGTERM} and no result" in events.get_nowait().message.message


def test_a_cage_is_asked_for_without_waiting_for_its_begin_and_one_that_is_ended_before_never_begins(
    tmp_path: Path,
) -> None:
    first = Cage("first", WALK, queue.Queue())
    before = time.monotonic()
    with hanging(parent(begun(first))):
        struck, killed = (touching(tmp_path / name) for name in ("struck", "killed"))
        struck.kill_now()
        assert killed.end(0.5)
        assert time.monotonic() - before < 5.0
        assert struck.has_ended()
        assert not struck.has_processes()
    later = touching(tmp_path / "later")
    assert later.wait(PATIENCE) == 0  # the spawner has done what it was asked for before
    assert [path.name for path in tmp_path.iterdir()] == ["later"]
    assert first.kill()


def test_a_cage_that_cannot_be_asked_for_costs_no_other_one() -> None:
    first = Cage("first", WALK, queue.Queue())
    pid, more = begun(first), list[Cage]()
    with hanging(parent(pid)):
        before = time.monotonic()
        with pytest.raises(ToolError, match="Resource temporarily unavailable"):
            more.extend(Cage(f"cage {number}", WALK, queue.Queue()) for number in range(2000))
        assert time.monotonic() - before < PATIENCE
        for cage in more:
            cage.kill()
    again = Cage("again", WALK, queue.Queue())  # as soon as the spawner reads again there is room
    assert parent(begun(again)) == parent(pid)
    assert is_alive(pid)
    assert again.kill()
    assert first.kill()


@pytest.mark.parametrize("patience", [Patience.within(1.0), Patience.stalled_after(1.0)], ids=["whole", "word"])
def test_to_begin_late_is_not_to_be_silent(patience: Patience) -> None:
    """A slow disk or a load holds up the begin, and that has a deadline of its own."""
    here = NodeFacts(node="www4", caged=True, volumes=(), marks=None, nice=0)
    another = MountIdentity(device="no such", source="", fstype="", root="")
    job = WalkJob(here=here, source="/", mounted=another, exclude=(), spool="/dev/null/none")
    first = Cage("first", WALK, queue.Queue())
    with hanging(parent(begun(first))) as spawner:
        late = Cage("late", WALK, queue.Queue())
        threading.Timer(2.0, os.kill, (spawner, signal.SIGCONT)).start()
        with pytest.raises(Interrupted):
            run_job(WALK, "asked", job, patience)
        assert late.silence() < 1.0
    assert late.kill()
    assert first.kill()


@pytest.mark.parametrize("spare", range(8))
def test_a_supervisor_without_descriptors_loses_only_the_cage_that_needs_them(spare: int) -> None:
    first = Cage("first", WALK, queue.Queue())
    gc.collect()  # what another test has left open must not close in between
    pid, opened = begun(first), opened_by(os.getpid())
    with descriptors(os.getpid(), limit(opened, spare)), pytest.raises(ToolError, match="Too many open") as caught:
        Cage("failing", WALK, queue.Queue())
    assert "`ulimit -n`" in caught.value.hint
    assert opened_by(os.getpid()) == opened
    again = Cage("again", WALK, queue.Queue())
    assert parent(begun(again)) == parent(pid)
    assert again.kill()
    assert first.kill()


def test_a_run_goes_on_without_the_target_whose_cage_cannot_be_had(pair: PlayedPair) -> None:
    pair.targets["more"] = f'kind = "nas"\npath = "{pair.folder}/more"\nrequire_mount = false'
    (pair.folder / "more").mkdir()
    told = pair.folder / "told"
    watched = ("strace", "--follow-forks", "--seccomp-bpf", "-o", str(told), "-e", "trace=socketpair")
    pair.under = watched
    pair.backs_up()
    calls = told.read_text().count("socketpair(")
    pair.under = (*watched, "-e", f"inject=socketpair:error=EMFILE:when={calls}")  # of the last target's cage
    [run] = pair.json("www4", "run", status=3)["runs"]
    assert {one["target"]: one["error"] and one["error"]["code"] for one in run["targets"]} == {
        "nas": None, "more": "tool.failed",
    }  # fmt: skip


@pytest.mark.parametrize("spare", [1, 2, 3, 4])
def test_a_spawner_without_descriptors_loses_only_the_cage_that_needs_them(spare: int) -> None:
    proc.end()  # a spawner with cages of other tests has gaps in its table where those end in between
    cages = [Cage(f"cage {number}", WALK, queue.Queue()) for number in range(4)]
    pids = [begun(cage) for cage in cages]
    spawner, events = parent(pids[0]), queue.Queue[Event]()
    with descriptors(spawner, limit(opened_by(spawner), spare)):
        failing = Cage("failing", WALK, events)
        wait_for(lambda: failing.check() or failing.ended, "the error")
    failed = events.get_nowait().message
    assert "could not be started" in failed.message
    assert "`ulimit -n`" in failed.hint
    again = Cage("again", WALK, queue.Queue())
    assert parent(begun(again)) == spawner
    assert all(is_alive(pid) for pid in pids)
    assert all(cage.kill() for cage in (again, *cages))


def test_what_goes_wrong_in_a_cage_before_its_job_is_no_refusal() -> None:
    """An exit status of 1 would look as EPERM does."""
    with open(os.devnull, "r+b") as nothing:
        failed = Caged(Job("\ud800", ()), (nothing.fileno(),) * 3, is_caged=True)
    assert failed.wait(time.monotonic() + PATIENCE) == 255
    assert failed.refused is None


def test_a_second_signal_does_not_disturb_the_undoing_of_the_first() -> None:
    program = """
import signal, time
from drbdbackup.pipeline.cage.worker import _stop
for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(signum, _stop)
try:
    print("working", flush=True)
    time.sleep(60)
finally:
    print("undoing", flush=True)
    input()
    print("undone", flush=True)
"""
    with subprocess.Popen(
        (sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as working:
        assert working.stdin is not None
        assert working.stdout is not None
        assert working.stdout.readline() == "working\n"
        working.terminate()
        assert working.stdout.readline() == "undoing\n"
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            working.send_signal(signum)
        working.stdin.write("\n")
        working.stdin.close()
        assert working.stdout.read() == "undone\n"
        assert working.wait(PATIENCE) == 128 + signal.SIGTERM


@contextmanager
def hanging(spawner: int) -> Iterator[int]:
    os.kill(spawner, signal.SIGSTOP)
    wait_for(lambda: state(spawner) == "T", "the stop")
    try:
        yield spawner
    finally:
        with suppress(ProcessLookupError):
            os.kill(spawner, signal.SIGCONT)


def opened_by(pid: int) -> set[int]:
    """Without what listing them takes."""
    folder = f"/proc/{pid}/fd"
    return {int(number) for number in os.listdir(folder) if os.path.lexists(f"{folder}/{number}")}


def limit(opened: set[int], spare: int) -> int:
    """What RLIMIT_NOFILE has to be so that only so many descriptors are free."""
    return max(most for most in range(3, 1024) if most - sum(end < most for end in opened) == spare)


@contextmanager
def descriptors(pid: int, most: int) -> Iterator[None]:
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def touching(path: Path) -> PipedProcess:
    """A cage that makes a file as soon as it begins, and does not wait for a job."""
    return proc.start_piped_caged(Job("cage: touch", ("tests.touching",), (str(path),)), lambda _: None)


def begun(cage: Cage) -> int:
    """Its process id, once it has one."""
    wait_for(cage._running._child.begun, "the begin")
    return cage._running.pid


def spawner_of(run: int) -> int:
    return next(pid for pid in family(run) if Path(f"/proc/{pid}/comm").read_text() == "cages\n")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def ids_of(pid: int) -> list[int]:
    """A process's ids in all its PID namespaces, ours first."""
    return [int(one) for one in Path(f"/proc/{pid}/status").read_text().split("NSpid:")[1].split("\n")[0].split()]


def is_alive(pid: int) -> bool:
    try:
        return state(pid) not in "ZX"
    except OSError:
        return False


def test_a_lock_on_another_file_of_the_same_number_is_not_ours(tmp_path: Path) -> None:
    """/proc/locks shows everybody the number of ours, and any user has files of any number in /dev/shm."""
    for name in ("ours", "his"):
        (tmp_path / name).mkdir()
        tool("mount", "-t", "tmpfs", "tmpfs", tmp_path / name)
    try:
        ours, his = tmp_path / "ours/lock", tmp_path / "his/lock"
        for one in (ours, his):
            one.touch()
        assert ours.stat().st_ino == his.stat().st_ino
        his.chmod(0o666)
        takes = "import fcntl, os, time; os.setuid(33); fcntl.flock(0, 2); print('held', flush=True); time.sleep(60)"
        with his.open() as file, subprocess.Popen(
            [sys.executable, "-c", takes], stdin=file, stdout=subprocess.PIPE
        ) as taker:
            assert taker.stdout is not None
            assert taker.stdout.readline() == b"held\n"
            assert not lock.is_held(str(ours))
            with lock.held(str(ours)):
                assert lock.is_held(str(ours))
            assert not lock.is_held(str(ours))
            taker.kill()
    finally:
        for name in ("ours", "his"):
            tool("umount", "--lazy", tmp_path / name)
