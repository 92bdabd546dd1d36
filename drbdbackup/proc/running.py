"""A long-running program through `sh`: lines to and from it, and an end that never waits for what cannot be killed."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from drbdbackup.proc.command import STDERR_LINES, Command, environment, found

GRACE = 2.0


class Running:
    """A long-running program: lines to and from it, and an end that never waits for what cannot be killed."""

    def __init__(self, command: Command, on_line: Callable[[str], None] | None, stdout: str | None) -> None:
        """Start it; `on_line` gets each line of stdout (from another thread), or stdout goes to the file `stdout`."""
        import queue

        import sh

        self.command = command
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._input: queue.Queue[str | None] = queue.Queue()
        program = sh.Command(found(command.argv[0]))
        self._process = program(
            *command.argv[1:], _bg=True, _bg_exc=False, _new_session=True, _tty_in=False, _tty_out=False,
            _in=self._input, _out=stdout if stdout is not None else (on_line or os.devnull),
            _err=self.stderr.append, _ok_code=list(range(-64, 256)), _env=environment(command.env),
            _truncate_exc=False, _no_out=on_line is not None, _no_err=True, _internal_bufsize=0, _encoding="utf-8",
            _decode_errors="surrogateescape",
        )
        self.pid: int = self._process.pid
        self._handle = _handle_of(self.pid)

    def write(self, line: str) -> None:
        """Send one line to its stdin."""
        self._input.put(line + "\n")

    def close_input(self) -> None:
        """Let it see the end of its stdin."""
        self._input.put(None)

    def wait(self, timeout: float) -> int | None:
        """Its exit status (negative for a signal), or None if it is still running after `timeout` seconds."""
        import sh

        try:
            self._process.wait(timeout=timeout)
        except sh.TimeoutException:
            return None
        except sh.ErrorReturnCode:
            pass
        return int(self._process.exit_code)

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds, known at once; what it said last may still be on its way.

        `wait` looks ten times a second only (sh does).
        """
        if self._handle >= 0:
            ends = select.poll()
            ends.register(self._handle, select.POLLIN)
            if not ends.poll(timeout * 1000):
                return False
            os.close(self._handle)
            self._handle = -1
        return True

    def stirred(self) -> int:
        """Bytes that its processes have read and written so far (proc(5), /proc/PID/io): does it still move?"""
        total = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError, ValueError):
                if os.getsid(int(name)) == self.pid:
                    with open(f"/proc/{name}/io") as counters:
                        total += sum(int(line.split()[1]) for line in counters if line[1:5] == "char")
        return total

    def lingers(self) -> bool:
        """Whether any process that it started is left, or itself: its end is not theirs, if only by a moment."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if os.getsid(int(name)) == self.pid:
                    with open(f"/proc/{name}/stat", "rb") as status:
                        if status.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
                            return True
        return False

    def strike(self) -> None:
        """KILL its group, and wait for nothing."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self, grace: float = GRACE) -> bool:
        """TERM, grace, KILL to its group; whether it is gone. False means that it hangs in D state: abandoned."""
        self.close_input()
        for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
            if self.has_ended():
                return True
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)
            if self.has_ended(patience):
                return True
        return False


def start(command: Command, on_line: Callable[[str], None] | None = None, stdout: str | None = None) -> Running:
    """Start a program that works for long; see `Running`. Raises ToolMissing."""
    return Running(command, on_line, stdout)


def _handle_of(pid: int) -> int:
    """A descriptor that tells when a child ends; -1 if sh has seen its end already."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return -1
