"""Starts drbdbackup as subprocess does, and in a fraction of the time: from a process that has imported all of it.

`Popen` and `run` are those of subprocess. `python -P -m drbdbackup ...` is forked from a process of this one's that has
imported every module and has never used one: no cache is filled, no thread runs, no file is open. The fork takes on
the arguments, environment, streams, folder, umask, limits and session that it is given, and runs `drbdbackup.__main__`.
Its id, its signals and its exit status are a process's. Whatever else is to be started is started as it is. Where
another program is to start it (ssh, a script, one in namespaces of its own), `door` is what that is given.

What is about starting itself (the console script, what is imported, another Python) must not go this way.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import io
import marshal
import os
import pkgutil
import resource
import runpy
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ENTRY = [sys.executable, "-P", "-m", "drbdbackup"]
# What Python and its libraries look at once, when they start.
READ_AT_START = ("PYTHON", "LC_", "LANG", "TYPER_", "_TYPER", "FORCE_COLOR", "TERMINAL_WIDTH", "GITHUB_ACTIONS", "LD_")
LATER = (  # what a run imports where it needs it
    "croniter", "pathspec", "sqlite3", "sqlite_utils", "tempfile", "tomllib", "uuid", "xxhash", "zoneinfo",
)  # fmt: skip
# Each takes megabytes, every fork of a fork copies the tables of all that is loaded, and few tests ask for these.
LARGE = ("asyncio", "prometheus_client", "pygal", "rich", "sh", "textual", "typer")
LIMITS = sorted(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
PADDING = "-" * 4000  # room for other arguments


class Popen(subprocess.Popen):
    """A process; one of drbdbackup is forked from what is loaded already."""

    _told = -1  # where its id and later its status is told, if it is forked

    def _execute_child(self, args: Any, *rest: Any) -> None:
        executable, preexec, _, pass_fds, cwd, env, _, _, shell, *ends, _, gid, gids, uid, umask, session, group = rest
        argv = [os.fsdecode(word) for word in args] if isinstance(args, list | tuple) else []
        env = {os.fsdecode(name): os.fsdecode(value) for name, value in (os.environ if env is None else env).items()}
        unusual = [executable, preexec, shell, gid, gids, uid, *pass_fds], (umask, group)
        if argv[: len(ENTRY)] != ENTRY or any(unusual[0]) or unusual[1] != (-1, -1) or looked_at(env) != AT_START:
            super()._execute_child(args, *rest)
            return
        to, _, _, out, _, err = ends
        limits = list(map(resource.getrlimit, LIMITS))
        asked = [argv, env, os.fsdecode(cwd or os.getcwd()), own_umask(), limits, session]
        self._told, told = os.pipe()
        try:
            streams = [end if end >= 0 else number for number, end in enumerate((to, out, err))]
            server = LOADED.reached()
            socket.send_fds(server, [marshal.dumps(asked)], [told, *streams])
        finally:
            os.close(told)
            self._close_pipe_fds(*ends)
        self.pid = self._number()
        if self.pid < 0:
            raise ChildProcessError("it has not come to start; its stderr says why")
        self._child_created = True

    def _number(self) -> int:
        said = os.read(self._told, 8)
        if len(said) < 8:
            raise ChildProcessError("the preloaded process is gone")
        return struct.unpack("q", said)[0]

    def _look(self, timeout: float | None) -> int | None:
        """Its exit status, if it ends in time (in seconds)."""
        with self._waitpid_lock:
            if self.returncode is None:
                ends = select.poll()
                ends.register(self._told, select.POLLIN)
                if ends.poll(None if timeout is None else max(0, timeout) * 1000):
                    self.returncode = os.waitstatus_to_exitcode(-1 - self._number())
                    os.close(self._told)
        return self.returncode

    def _internal_poll(self, *args: Any, **named: Any) -> int | None:
        return super()._internal_poll(*args, **named) if self._told < 0 else self._look(0)

    def _wait(self, timeout: float | None) -> int:
        if self._told < 0:
            return super()._wait(timeout)
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status


def run(
    argv: Any, *, capture_output: bool = False, timeout: float | None = None, **named: Any
) -> subprocess.CompletedProcess[Any]:
    """As subprocess.run does it."""
    named |= {"stdout": -1, "stderr": -1} if capture_output else {}
    with Popen(argv, **named) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def door() -> list[str]:
    """The beginning of a command line that does what `python -P -m drbdbackup` does, wherever it is started."""
    LOADED.reached()
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("preloaded_door.py")), LOADED.name]


class Loaded:
    """The process that forks; there is none before the first run is asked for. Its door is an abstract socket."""

    def __init__(self) -> None:
        self.name = f"preloaded-{secrets.token_hex(8)}"
        self._lock = threading.Lock()
        self._server: socket.socket | None = None

    def reached(self) -> socket.socket:
        with self._lock:
            if self._server is None:
                self._server, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                door.bind(f"\0{self.name}")
                door.listen(64)
                ends = [its.fileno(), door.fileno()]
                argv = [sys.executable, "-P", __file__, *map(str, ends), PADDING]
                started = subprocess.Popen(argv, pass_fds=ends, stdin=subprocess.DEVNULL, env=STARTED)
                its.close()
                door.close()
                atexit.register(self._end, started)
            return self._server

    def _end(self, started: subprocess.Popen[bytes]) -> None:
        if self._server is not None:
            self._server.close()
        started.wait(10)


def looked_at(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def own_umask() -> int:
    with open("/proc/thread-self/status") as status:
        return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))


STARTED = dict(os.environ)
AT_START = looked_at(STARTED)
LOADED = Loaded()


def load() -> None:
    """Import all that is ours, and what that imports later, but for what needs one of the `LARGE` libraries."""
    import drbdbackup

    sys.modules.update(dict.fromkeys(LARGE))  # what Python takes for not installed
    for found in pkgutil.walk_packages(drbdbackup.__path__, "drbdbackup."):
        if not found.name.endswith("__main__"):
            with suppress(ModuleNotFoundError):
                importlib.import_module(found.name)
    for name in LATER:
        importlib.import_module(name)
    for name in LARGE:
        del sys.modules[name]


def serve(asks: socket.socket, door: socket.socket) -> None:
    """Fork whenever it is asked for, and tell how each ends: -1 - its status. Returns in each fork."""
    running: dict[int, tuple[int, int]] = {}  # by what tells of its end
    ready = select.poll()
    ready.register(asks, select.POLLIN)
    ready.register(door, select.POLLIN)
    while True:
        [(end, _), *_] = ready.poll()
        if end in (asks.fileno(), door.fileno()):
            asked, told, given = heard(asks) if end == asks.fileno() else heard_at(door)
            pid = os.fork()
            if pid == 0:
                become(*marshal.loads(asked), told, *given)
                return
            for fd in given:
                os.close(fd)
            handle = os.pidfd_open(pid)
            running[handle] = pid, told
            ready.register(handle, select.POLLIN)
            if end == door.fileno():
                ready.register(told, select.POLLHUP)
        elif end in running:
            pid, told = running.pop(end)
            ready.unregister(end)
            os.close(end)
            with suppress(OSError):  # nobody wants to know any more
                os.write(told, struct.pack("q", -1 - os.waitpid(pid, 0)[1]))
            with suppress(KeyError):
                ready.unregister(told)
            os.close(told)
        else:  # what stood at the door for it was killed
            ready.unregister(end)
            os.kill(next(pid for pid, told in running.values() if told == end), signal.SIGKILL)


def heard(asks: socket.socket) -> tuple[bytes, int, list[int]]:
    """What is asked for, where to tell of it, and the streams. All of this ends with who asks."""
    asked, (*fds,), _, _ = socket.recv_fds(asks, 1 << 22, 4)
    if not asked:
        os._exit(0)
    return asked, fds[0], fds[1:]


def heard_at(door: socket.socket) -> tuple[bytes, int, list[int]]:
    """The same from one at the door; it brings namespaces to go into, too."""
    comes = door.accept()[0]
    asked, fds, _, _ = socket.recv_fds(comes, 1 << 22, 5)
    return asked, comes.detach(), fds


def become(
    argv: list[str], env: dict[str, str], cwd: str, umask: int, limits: list[tuple[int, int]], session: bool,
    told: int, *given: int,
) -> None:  # fmt: skip
    """Take on what a process that is started is given, and tell who it is."""
    for number, fd in enumerate(given[:3]):
        os.dup2(fd, number)
    for space in given[3:]:
        if ctypes.CDLL(None, use_errno=True).setns(space, 0):
            raise OSError(ctypes.get_errno(), "its namespaces cannot be had")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if session:
        os.setsid()
    os.chdir(cwd)
    os.umask(umask)
    for limit, wanted in zip(LIMITS, limits, strict=False):
        if resource.getrlimit(limit) != tuple(wanted):
            resource.setrlimit(limit, tuple(wanted))
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.stdin, sys.stdout, sys.stderr = (opened(*each) for each in enumerate((sys.stdin, sys.stdout, sys.stderr)))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv, sys.orig_argv = ["-m", *argv[len(ENTRY) :]], argv
    show(argv)
    os.write(told, struct.pack("q", os.getpid()))
    os.closerange(3, 1 << 20)


def opened(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """A standard stream as Python opens it."""
    return io.TextIOWrapper(
        open(number, "wb" if number else "rb", closefd=False), like.encoding, like.errors,
        newline="\n" if number else None, line_buffering=number == 2 or os.isatty(number),
    )  # fmt: skip


def show(argv: list[str]) -> None:
    """Have /proc/PID/cmdline show these arguments, in the room that ours and a padding take up (proc(5), arg_start)."""
    with open("/proc/self/stat") as status:
        start, end = map(int, status.read().rpartition(")")[2].split()[45:47])
    words = b"".join(os.fsencode(word) + b"\0" for word in argv)[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    load()
    gc.collect()
    gc.freeze()
    serve(*(socket.socket(fileno=int(end)) for end in sys.argv[1:3]))
    runpy.run_module("drbdbackup", run_name="__main__", alter_sys=True)
