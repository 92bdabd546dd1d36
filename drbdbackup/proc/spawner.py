"""The process that cages are forked from: single-threaded, small, with the modules of its jobs loaded once.

A cage that is forked starts in milliseconds, where a Python of its own takes a fifth of a second. The spawner is itself
forked from us before we have threads. It holds nothing of ours but one socket: no lock, and no stream that somebody
reads to its end. It waits for no single process, so one that hangs in the kernel keeps it from nothing. It ends with
us, and its cages with it.

A request comes with a line (a socket) and three descriptors. Over the line the cage says that it has begun and the
spawner, later, how it ended. Closing the other end of the line ends the cage. Until then an ended cage is not
reaped, so that its process id is nobody else's.

A cage is one process, PID 1 of its own namespace: when it ends, however it does, the kernel kills all that it has
started, and the cage counts as ended when they are gone. Signals from outside reach it only where it asks for them.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from drbdbackup.proc import fd_passing, namespaces

_MOST = 1 << 18  # bytes of a request
_CONTROL = 3  # beside the standard ones: a low `ulimit -n` is one on numbers
_ENDS = 4  # the line, stdin, stdout, stderr
_FAILED = 255  # exit status of a cage that came to grief before its job
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


def serve(control: int, parent: int) -> NoReturn:
    """Fork what the socket `control` asks for, until its other end is gone. `parent` is the asking process's id, or 0
    where its death signal would be that of a passing thread.
    """
    try:
        gc.freeze()  # what our parent had open must not be closed here, by its number, when its object goes
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)  # whoever ends us by a signal means our parent
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.setsid()
        if control != _CONTROL:
            os.dup2(control, _CONTROL, inheritable=False)
        _hold_only((os.open(os.devnull, os.O_RDWR),) * 3, _CONTROL)
        namespaces.set_process_name("cages")
        if parent:
            namespaces.die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
        _Spawner(socket.socket(fileno=_CONTROL)).work()
    finally:
        os._exit(1)


class _Spawner:
    """`lines` and `handles` lead, by descriptor, to the processes that were forked and not yet reaped."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines: dict[int, tuple[socket.socket, int]] = {}
        self._handles: dict[int, int] = {}
        self._line_of: dict[int, int] = {}
        self._ready = select.poll()
        self._ready.register(control, select.POLLIN)
        self._own = os.pidfd_open(os.getpid())
        self._own_pids = -1

    def work(self) -> None:
        """Until the other end is gone."""
        while True:
            for number, _ in self._ready.poll():
                if number == self._control.fileno():
                    message, ends = fd_passing.receive(self._control, _MOST, _ENDS)
                    if not message:
                        return
                    self._begin(json.loads(message), ends)
                elif number in self._handles:
                    self._ended(number)
                elif number in self._lines:
                    self._let_go(number)

    def _begin(self, job: dict[str, Any], ends: list[int]) -> None:
        """Start a cage. If that fails the answer says so, and no other cage suffers from it."""
        if not ends:  # there were no descriptors left for it; it sees the end of its line
            return None
        line = socket.socket(fileno=ends[0])
        spawner, pid, refused = os.getpid(), 0, None
        try:
            if len(ends) < _ENDS:
                return _send(line, {"said": os.strerror(errno.EMFILE), "because": errno.EMFILE})
            for name in job["modules"]:
                with suppress(Exception):  # the cage meets it again, and can say so
                    importlib.import_module(name)
            gc.freeze()
            if job["caged"]:
                refused = self._refused_new_pids()
            try:
                pid = os.fork()
                if pid == 0:
                    self._be(job, line, ends[1:], refused)
            finally:
                if job["caged"] and refused is None:
                    self._leave_new_pids()
            handle = os.pidfd_open(pid)
        except (OSError, MemoryError) as error:
            if os.getpid() != spawner:
                os._exit(_FAILED)
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)  # it has just begun: nothing there can hang
            number = error.errno if isinstance(error, OSError) else errno.ENOMEM
            why = f"{'pidfd_open' if pid else 'fork'}: {os.strerror(number or 0)}"
            return _send(line, {"said": why, "because": number})
        finally:
            for end in ends[1:]:
                os.close(end)
        self._lines[line.fileno()], self._line_of[pid], self._handles[handle] = (line, pid), line.fileno(), pid
        self._ready.register(line, 0)  # its end is all that comes of it
        self._ready.register(handle, select.POLLIN)
        return None

    def _refused_new_pids(self) -> OSError | None:
        """Have the next child begin a PID namespace; why the kernel does not want that."""
        try:
            if self._own_pids < 0:  # not before: without it there are processes outside of cages
                self._own_pids = namespaces.open_own_pids()
            namespaces.have_next_child_in_new_pids(self._own_pids)
        except OSError as error:
            return error
        return None

    def _leave_new_pids(self) -> None:
        """The next child is none of the last one's namespace. It must never be: without this there is no next one."""
        try:
            namespaces.have_children_in(self._own_pids)
        except OSError:
            os._exit(1)

    def _ended(self, handle: int) -> None:
        pid = self._handles.pop(handle)
        self._ready.unregister(handle)
        os.close(handle)
        if pid not in self._line_of:
            os.waitpid(pid, 0)
        elif seen := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            status = seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status
            _send(self._lines[self._line_of[pid]][0], {"status": status})

    def _let_go(self, number: int) -> None:
        line, pid = self._lines.pop(number)
        del self._line_of[pid]
        self._ready.unregister(number)
        line.close()
        if pid not in self._handles.values():
            os.waitpid(pid, 0)
            return
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)

    def _be(
        self, job: dict[str, Any], line: socket.socket, ends: list[int], refused: OSError | None
    ) -> NoReturn:  # fmt: skip
        """The forked process: leads a session, dies with the spawner, enters its cage unless that is refused, and does
        the job.
        """
        try:
            os.setsid()
            namespaces.die_with_parent()
            is_gone = select.poll()
            is_gone.register(self._own, select.POLLIN)
            if is_gone.poll(0):
                os._exit(_FAILED)
            namespaces.set_process_name("cage")
            own = os.pidfd_open(os.getpid())
            fd_passing.send(line, json.dumps({"begun": True}).encode(), [own])
            _hold_only(ends, line.fileno())
            for name, value in job["environment"].items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
            if job["caged"]:
                _enter(refused)
            line.close()
            for signum in SIGNALS:
                signal.signal(signum, signal.SIG_DFL)
            namespaces.set_process_name(job["name"])
        except OSError as error:
            _send(line, {"errno": error.errno, "said": error.strerror})
            os.write(2, f"no cage: {error.strerror}\n".encode())
            os._exit(_FAILED)
        except BaseException:  # noqa: BLE001  no memory, say: that refuses nothing
            traceback.print_exc()
            os._exit(_FAILED)
        _do(job)


def _enter(refused: OSError | None) -> None:
    """Enter what is left of a cage: we are PID 1 of a namespace already, unless that was `refused`. Raises OSError."""
    if refused is not None:
        raise refused
    namespaces.enter_own_mounts()
    namespaces.mount_proc()


def _do(job: dict[str, Any]) -> NoReturn:
    """Call the `main` of the job's first module as if it were a program. A job without one is a try."""
    try:
        if job["modules"]:
            sys.argv = [job["modules"][0], *job["args"]]
            importlib.import_module(job["modules"][0]).main()
        os._exit(0)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001  the last of this process
        traceback.print_exc()
    finally:
        os._exit(1)


def _hold_only(ends: list[int] | tuple[int, ...], *further: int) -> None:
    """These as stdin, stdout and stderr, and some more."""
    for number, end in enumerate(ends):
        os.dup2(end, number)
    beyond = 3
    for number in sorted(further):
        os.closerange(beyond, number)
        beyond = number + 1
    os.closerange(beyond, os.sysconf("SC_OPEN_MAX"))


def _send(line: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(OSError):
        line.send(json.dumps(answer).encode(), socket.MSG_DONTWAIT)
