"""A program that works for long and talks with us, line by line.

Not through `sh`: that imports asyncio and with it OpenSSL, a fifth of a second from a cold disk, and every run talks.
Whatever may block (the program may not read, or hang in the kernel) does so in a thread that nobody waits for.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from drbdbackup.errors import ToolError
from drbdbackup.proc.command import STDERR_LINES, Command, environment, found
from drbdbackup.proc.group import Group

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)


class Talking(Group):
    """Lines to and from a program."""

    def __init__(self, command: Command, on_line: Callable[[str], None]) -> None:
        """Start it; `on_line` gets each line of its stdout, from another thread. Raises ToolMissing, ToolError."""
        stderr: deque[str] = deque(maxlen=STDERR_LINES)
        pid, to, out, err = _started(command)
        super().__init__(pid, stderr)
        self._exit: int | None = None
        self._input: queue.Queue[str | None] = queue.Queue()
        self._hearing: list[threading.Thread] = []
        for work in ((_write, to, self._input.get), (_read, out, on_line), (_read, err, stderr.append)):
            self._hearing.append(threading.Thread(target=work[0], args=work[1:], daemon=True))
            self._hearing[-1].start()

    def write(self, line: str) -> None:
        """Send one line to its stdin."""
        self._input.put(line + "\n")

    def close_input(self) -> None:
        """Let it see the end of its stdin, after what has been written."""
        self._input.put(None)

    def hear_out(self, patience: float) -> None:
        """After its end: wait for what it said last. What it has started may go on talking: no longer than that."""
        for thread in self._hearing[1:]:
            thread.join(patience)

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds; what it said last may still be on its way."""
        ended = super().has_ended(timeout)
        if ended and self._exit is None:
            self._exit = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return ended

    def wait(self, timeout: float) -> int | None:
        """Its exit status (negative for a signal), or None if it is still running after `timeout` seconds."""
        return self._exit if self.has_ended(timeout) else None


def talk(command: Command, on_line: Callable[[str], None]) -> Talking:
    """Start a program that talks with us; see `Talking`. Raises ToolMissing, ToolError."""
    return Talking(command, on_line)


def _started(command: Command) -> tuple[int, int, int, int]:
    """Its process id and our ends of its stdin, stdout and stderr."""
    program = found(command.argv[0])
    (theirs_in, to), (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe(), os.pipe()
    theirs = theirs_in, theirs_out, theirs_err
    moves = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(theirs)]
    try:
        pid = os.posix_spawn(
            program, command.argv, environment(command.env), file_actions=moves, setsid=True, setsigdef=_SIGNALS
        )
    except OSError as error:
        for end in (to, out, err):
            os.close(end)
        raise ToolError(f"{command.name} could not be started: {error.strerror}") from None
    finally:
        for end in theirs:
            os.close(end)
    return pid, to, out, err


def _write(to: int, next_line: Callable[[], str | None]) -> None:
    with suppress(BrokenPipeError), open(to, "w", encoding="utf-8", errors="surrogateescape") as pipe:
        while (line := next_line()) is not None:
            pipe.write(line)
            pipe.flush()


def _read(end: int, on_line: Callable[[str], None]) -> None:
    with open(end, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            on_line(line)
