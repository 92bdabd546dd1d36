"""A program in a session of its own: whether it moves, and an end that never waits for what cannot be killed."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

from drbdbackup.proc.child import Child

GRACE = 2.0  # seconds


class Group:
    """A process and all that it starts. `stderr` has the last lines that it complained of."""

    def __init__(self, child: Child, stderr: deque[str]) -> None:
        """Of a process that leads a session, or will as soon as it begins."""
        self.stderr = stderr
        self._child = child

    @property
    def pid(self) -> int:
        """Its process id; -1 as long as it has not begun."""
        return self._child.pid

    def has_begun(self) -> bool:
        """Whether it is at work already; a cage begins later than it is asked for."""
        return self._child.begun()

    def close_input(self) -> None:
        """Let it see the end of its stdin, if it has one."""

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds, known at once; its last output may still be on its way."""
        return self._child.has_ended(timeout)

    def activity(self, without: str = "") -> int:
        """Bytes that its processes have read and written so far (proc(5), /proc/PID/io): does it still move?

        What is called `without`, and what that has started, does not count.
        """
        members = dict[int, tuple[str, int]]()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError, ValueError, IndexError):
                if os.getsid(int(name)) == self.pid:
                    members[int(name)] = _name_and_parent(int(name))
        total = 0
        for pid in members:
            with suppress(OSError, ValueError):
                total += 0 if _is_below(pid, without, members) else io_bytes(pid)
        return total

    def has_processes(self) -> bool:
        """Whether any process that it started is left, or itself: its end is not theirs, if only by a moment."""
        self._child.begun()
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if os.getsid(int(name)) == self.pid:
                    with open(f"/proc/{name}/stat", "rb") as status:
                        if status.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X"):
                            return True
        return False

    def kill_now(self) -> None:
        """KILL its group, and wait for nothing. What has not begun yet never will."""
        if self._child.cancel_start():
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def end(self, grace: float = GRACE) -> bool:
        """TERM, grace, KILL to its group; whether it is gone. False means that it hangs in D state: abandoned.

        The process that started it is not asked: it may be busy or hang.
        """
        self.close_input()
        if self._child.cancel_start():
            return True
        for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
            if self.has_ended():
                return True
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)
            if self.has_ended(patience):
                return True
        return False


def _name_and_parent(pid: int) -> tuple[str, int]:
    """What a process is called, and its parent's id (proc(5), /proc/PID/stat). Raises OSError, ValueError."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        before, _, after = file.read().rpartition(")")
    return before.partition("(")[2], int(after.split()[1])


def _is_below(pid: int, name: str, members: Mapping[int, tuple[str, int]]) -> bool:
    """Whether a process of this name is the one with this id, or one that it comes from."""
    for _ in members:
        called, parent = members.get(pid, ("", 0))
        if not name or not called:
            return False
        if called == name:
            return True
        pid = parent
    return False


def io_bytes(pid: int) -> int:
    """Bytes that a process has read and written so far (proc(5), /proc/PID/io). Raises OSError, ValueError."""
    with open(f"/proc/{pid}/io", "rb") as counters:
        return sum(int(line.split()[1]) for line in counters if line[1:5] == b"char")
