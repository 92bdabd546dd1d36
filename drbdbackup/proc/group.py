"""A program in a session of its own: whether it moves, and an end that never waits for what cannot be killed."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections import deque
from contextlib import suppress

GRACE = 2.0


class Group:
    """A process and all that it starts. `stderr` has the last lines that it complained of."""

    def __init__(self, pid: int, stderr: deque[str]) -> None:
        """Of a child of ours that has just become the leader of a session."""
        self.pid = pid
        self.stderr = stderr
        self._handle = _handle_of(pid)

    def close_input(self) -> None:
        """Let it see the end of its stdin, if it has one."""

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds, known at once; what it said last may still be on its way.

        A `Running` waits for it by looking ten times a second (sh does).
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


def _handle_of(pid: int) -> int:
    """A descriptor that tells when a child ends; -1 if sh has seen its end already."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return -1
