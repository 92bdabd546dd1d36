"""A process that we have started, for the code that waits for it.

Nothing here waits for it without a deadline: it may never end.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from contextlib import suppress


class Child:
    """A process that leads a session, by its pid and a descriptor that can be read from when it has ended."""

    def __init__(self, pid: int) -> None:
        """Of a child of ours; somebody else (sh) may have waited for it."""
        self.pid = pid
        self._handle = _handle_of(pid)
        self._status: int | None = None

    def begun(self, timeout: float = 0.0) -> bool:
        """Whether it begins within so many seconds; `pid` is -1 before."""
        return True

    def cancel_start(self) -> bool:
        """Keep it from beginning; False where it has begun. Waits for nothing."""
        return False

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds. Its exit status need not be known yet."""
        if self._handle >= 0:
            ends = select.poll()
            ends.register(self._handle, select.POLLIN)
            if not ends.poll(timeout * 1000):
                return False
            handle, self._handle = self._handle, -1  # in this order: a signal may come in between
            os.close(handle)
        return True

    def wait(self, deadline: float) -> int | None:
        """Its exit status, negative for a signal; None if it is not known by the deadline. Raises ToolError."""
        if not self.has_ended(max(0.0, deadline - time.monotonic())):
            return None
        return self.collect(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """KILL its session's group, and reap it if it goes within a second: what cannot go is abandoned.

        Whether it has gone its own descriptor says. Nobody else is waited for.
        """
        if not self.cancel_start():
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)
        if self.has_ended(1.0):
            with suppress(ChildProcessError):
                self.collect(0.0)

    def collect(self, patience: float) -> int | None:
        """Its exit status, once it has ended, if that comes within so many seconds: here this reaps it, at once."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


def _handle_of(pid: int) -> int:
    """A descriptor that shows when a child ends; -1 if sh has seen its end already."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return -1
