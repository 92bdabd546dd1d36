"""The cage: own mount and PID namespaces that die with their starter, so nothing of ours outlives the run.

They are forked from a process of their own (see `spawner`), which is forked from us at the first question or the first
cage; where we have threads by then, it is a Python started anew. After kill -9 of any of these no process and no mount
of a cage is left.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from msgspec import Struct

from drbdbackup.errors import NO_PROC, ToolError, ToolTimedOut, hint_for
from drbdbackup.proc import fd_passing
from drbdbackup.proc.child import Child
from drbdbackup.proc.command import environment, find, own_python
from drbdbackup.proc.refusal import try_guard
from drbdbackup.proc.waiting import reap

_BEGIN_TIMEOUT = 60.0  # seconds in which the spawner has loaded a job's modules, from a slow disk, and forked
_TRY_TIMEOUT = 10.0
_REQUEST_TIMEOUT = 5.0  # seconds in which a spawner that has a lot to do takes the next request
_STATUS_TIMEOUT = 10.0  # seconds after a cage's end in which the spawner, busy with another, gives its exit status
_EXIT_TIMEOUT = 1.0  # seconds in which the spawner has ended after us; it only has to close its files
_KILLED = "it was killed"
_STARTS_ANEW = "import sys; from drbdbackup.proc import spawner; spawner.serve(*map(int, sys.argv[1:]))"


class Job(Struct, frozen=True):
    """What a cage does: `main()` of the first of its `modules`, which finds `args` in sys.argv as a program would.

    All of the modules are imported once, where cages are forked from. `name` is what ps shows.
    """

    name: str
    modules: tuple[str, ...]
    args: tuple[str, ...] = ()


class Caged(Child):
    """A process in a cage, or without one where none is available; either way it dies with us.

    Nobody waits until it has begun: the process that forks it may be busy with a slow disk. It is killed when this is
    forgotten, as after a signal in the middle of its start. `refused` is the kernel's errno where a cage was refused;
    `is_orphan`, that who should have forked it ended first.
    """

    def __init__(self, job: Job, ends: Sequence[int], *, is_caged: bool) -> None:
        """Ask for it, with these as stdin, stdout and stderr. Raises ToolError."""
        self.pid = self._handle = -1
        self.refused: int | None = None
        self.is_orphan = False
        self._status: int | None = None
        self._failed: ToolError | None = None
        self._name = job.name
        self._begins_until = time.monotonic() + _BEGIN_TIMEOUT
        self._status_until = 0.0
        self._hearing = threading.Lock()  # who watches for failovers strikes from another thread
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            fd_passing.ask_for_senders(self._line)
            _ask(job, [theirs.fileno(), *ends], is_caged=is_caged)
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()

    def begun(self, timeout: float = 0.0) -> bool:
        """Whether it begins within so many seconds. After a minute it never will."""
        if self.pid < 0 and self._failed is None:
            self._await(min(timeout, self._begins_until - time.monotonic()))
            with self._hearing:
                self._hear_begin()
        return self.pid >= 0

    def cancel_start(self) -> bool:
        """See `Child`. What it has not said by now it cannot say any more, and then it goes no further."""
        with self._hearing:
            self._hear_begin()
            if self.pid < 0 and self._failed is None:
                self._shut()
                self._hear_begin()
            return self.pid < 0

    def has_ended(self, timeout: float = 0.0) -> bool:
        """See `Child`; also if it could not be started."""
        until = time.monotonic() + timeout
        if self.begun(timeout):
            return super().has_ended(max(0.0, until - time.monotonic()))
        return self._failed is not None

    def collect(self, patience: float) -> int | None:
        """See `Child`. Where nobody is left who could know, it was killed with who knew."""
        self._status_until = self._status_until or time.monotonic() + _STATUS_TIMEOUT
        until = time.monotonic() + patience
        while self._status is None and self._failed is None:
            self._await(min(until, self._status_until) - time.monotonic())
            answer, *_ = self._hear()
            if answer is None:
                if time.monotonic() < self._status_until:
                    return None
                answer = {}
            self.refused = answer.get("errno", self.refused)
            if "errno" not in answer:
                self._status = int(answer.get("status", -signal.SIGKILL))
        return self._status

    def wait(self, deadline: float) -> int | None:
        """See `Child`. Raises ToolError if it could not be started, ToolTimedOut if it did not begin in time."""
        status = super().wait(deadline)
        if self._failed is not None:
            raise self._failed
        return status

    def _hear_begin(self) -> None:
        if self.pid >= 0 or self._failed is not None:
            return
        answer, handles, sender = self._hear()
        if answer is None:
            if time.monotonic() >= self._begins_until:
                self._shut()
                self._failed = ToolTimedOut(f"{self._name}: its process did not begin within {_BEGIN_TIMEOUT:g} s")
        elif "begun" not in answer:
            number, self.is_orphan = answer.get("because", answer.get("errno")), not answer
            self._failed = _not_started(self._name, answer.get("said", _KILLED), number)
        elif handles:
            self._handle, self.pid = handles[0], sender
        else:
            with suppress(ProcessLookupError):
                os.killpg(sender, signal.SIGKILL)  # before it can be reaped: then the id may be another's
            self._shut()
            self._failed = _not_started(self._name, os.strerror(errno.EMFILE), errno.EMFILE)

    def _shut(self) -> None:
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def _await(self, patience: float) -> None:
        ready = select.poll()
        ready.register(self._line, select.POLLIN)
        ready.poll(max(0.0, patience) * 1000)

    def _hear(self) -> tuple[dict[str, Any] | None, list[int], int]:
        """What has come over the line, {} at its end and None if nothing has; with it a handle, and who sent it."""
        try:
            message, handles, sender = fd_passing.receive_from(self._line, 1 << 12, 1)
        except BlockingIOError:
            return None, [], 0
        except ConnectionResetError:
            return {}, [], 0
        return (json.loads(message) if message else {}), handles, sender


@cache
def can_cage() -> bool:
    """Whether mount and PID namespaces are available here (not in every container, not without root).

    Raises Unguarded. To be asked before the volume may have to be given up in time: it can take half a minute.
    """
    return os.geteuid() == 0 and try_guard(_try, "no cage for the copies")


def bound(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` so that it is killed when the thread that starts it ends, however that ends."""
    return (*(("setpriv", "--pdeathsig", "KILL") if find("setpriv") else ()), *argv)


def prepare() -> None:
    """Start what cages are forked from, before there are threads. If it cannot be, the first cage tries and says so."""
    with _starting, suppress(ToolError):
        if _spawner is None:
            _start()


def end() -> None:
    """Let the spawner end, and wait a moment for it: what a service leaves, systemd kills, and says so each night."""
    if _spawner is not None:
        _forget()
        _reaped()


def _not_started(name: str, why: str | None, number: int | None) -> ToolError:
    return ToolError(f"{name}: its process could not be started: {why}", hint_for(number))


def _try() -> None:
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        tried = Caged(Job("cage: try", ()), (nothing,) * 3, is_caged=True)
    finally:
        os.close(nothing)
    try:
        tried.begun(_BEGIN_TIMEOUT)
        status = tried.wait(time.monotonic() + _TRY_TIMEOUT)
    except ToolError:
        # A filter of system calls may kill whoever asks for a namespace, and that is the spawner.
        if not tried.is_orphan or (status := _reaped()) >= 0:
            raise
    except BaseException:
        tried.kill()
        raise
    if status is None:
        tried.kill()
        raise ToolTimedOut(f"new namespaces: not there within {_TRY_TIMEOUT:g} s")
    if tried.refused is not None:
        raise OSError(tried.refused, f"new namespaces: {os.strerror(tried.refused)}")
    if status < 0:
        raise ToolError(f"new namespaces: killed by signal {-status}")
    if status > 0:
        raise ToolError(f"new namespaces: exit status {status}")


def _reaped() -> int:
    """The exit status of the spawner, negative for a signal, if it ends in a moment; else 0."""
    with suppress(OSError):  # it was reaped before
        return reap(_spawner_pid, time.monotonic() + _EXIT_TIMEOUT) or 0
    return 0


_starting = threading.Lock()
_spawner: socket.socket | None = None
_spawner_pid = 0
_environment: dict[str, str] = {}


def _ask(job: Job, ends: Sequence[int], *, is_caged: bool) -> None:
    """Send the spawner a request; it is started where there is none, or none any more. Raises ToolError.

    Only an end of the connection says that it is gone. After any other error its cages go on.
    """
    until = time.monotonic() + _REQUEST_TIMEOUT
    with _starting:
        now = environment()
        for is_last in (False, True):
            spawner = _spawner or _start()
            changed = {
                name: now.get(name) for name in now.keys() | _environment if now.get(name) != _environment.get(name)
            }
            request = {
                "name": job.name, "modules": job.modules, "args": job.args, "caged": is_caged, "environment": changed,
            }  # fmt: skip
            try:
                fd_passing.send(spawner, json.dumps(request).encode(), ends, until)
            except ConnectionError as error:
                _forget()
                if is_last:
                    raise _not_started(job.name, error.strerror, error.errno) from None
            except BlockingIOError as error:
                raise _not_started(job.name, error.strerror, None) from None
            except OSError as error:
                raise _not_started(job.name, error.strerror, error.errno) from None
            else:
                return


def _start() -> socket.socket:
    """A fork where there is only this thread; else what other threads are at would be torn in two."""
    global _spawner, _spawner_pid, _environment
    from drbdbackup.proc import spawner

    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in pair)  # 0 to 2 may be closed
    for end in pair:
        end.close()
    parent = os.getpid() if threading.get_native_id() == os.getpid() else 0
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, spawner.SIGNALS)  # their handlers are this process's own
        if len(os.listdir("/proc/self/task")) == 1:
            pid = os.fork()
            if pid == 0:
                spawner.serve(theirs, parent)
        else:
            argv = own_python("-c", _STARTS_ANEW, "3", str(parent))
            moves = [(os.POSIX_SPAWN_DUP2, theirs, 3)]
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=moves)
        started = socket.socket(fileno=ours)
        _spawner, _spawner_pid, _environment = started, pid, dict(os.environ)
    except BaseException as error:
        os.close(ours)
        if isinstance(error, OSError):
            lacks_proc = str(error.filename).startswith("/proc/")
            why = f"{error.filename}: {error.strerror}" if lacks_proc else error.strerror
            hint = NO_PROC if lacks_proc else hint_for(error.errno)
            raise ToolError(f"the processes of a run could not be started: {why}", hint) from None
        raise
    finally:
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # the last of it: a handler may raise here
    return started


def _forget() -> None:
    global _spawner  # noqa: PLW0603
    if _spawner is not None:
        _spawner.close()
        _spawner = None


def _after_fork() -> None:
    """In a forked process the parent's spawner is not ours, and the thread that held the lock does not exist."""
    global _starting  # noqa: PLW0603
    _starting = threading.Lock()
    _forget()


os.register_at_fork(after_in_child=_after_fork)
