"""A program that works for long and talks with us, line by line.

Not through `sh`: that imports asyncio and with it OpenSSL, a fifth of a second from a cold disk, and every run talks.
Whatever may block (the program may not read, or hang in the kernel) does so in a thread that nobody waits for.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from drbdbackup.errors import ToolError, hint_for
from drbdbackup.proc import stderr_lines
from drbdbackup.proc.caging import Caged, Job, can_cage
from drbdbackup.proc.child import Child
from drbdbackup.proc.command import STDERR_LINES, Command, found
from drbdbackup.proc.group import Group
from drbdbackup.proc.start_program import spawn


class PipedProcess(Group):
    """Lines to and from a program."""

    def __init__(
        self, start: Callable[[Sequence[int]], Child], on_line: Callable[[str], None], newline: str | None = None,
        kept: int = STDERR_LINES,
    ) -> None:  # fmt: skip
        """`start` it, given its stdin, stdout and stderr; `on_line` gets each line of its stdout, in another thread.

        Of its stderr the last `kept` lines are kept.
        """
        stderr: deque[str] = deque(maxlen=kept)
        child, to, out, err = _piped(start)
        super().__init__(child, stderr)
        self._input: queue.Queue[str | None] = queue.Queue()
        self._hearing: list[threading.Thread] = []
        works: tuple[tuple[Callable[..., None], *tuple[object, ...]], ...] = (
            (_write, to, self._input.get), (_read, out, on_line, newline), (stderr_lines.read, err, stderr.append),
        )  # fmt: skip
        for work, *given in works:
            self._hearing.append(threading.Thread(target=work, args=given, daemon=True))
            self._hearing[-1].start()

    def write(self, line: str) -> None:
        """Send one line to its stdin."""
        self._input.put(line + "\n")

    def close_input(self) -> None:
        """Let it see the end of its stdin, after what has been written."""
        self._input.put(None)

    def await_output(self, patience: float) -> None:
        """After its end: wait for its last output. What it has started may go on writing: no longer than that."""
        for thread in self._hearing[1:]:
            thread.join(patience)

    def has_output_ended(self) -> bool:
        """Whether all of its output was read: nobody has its stdout or stderr open any more."""
        return not any(thread.is_alive() for thread in self._hearing[1:])

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Whether it ends within so many seconds; its last output may still be on its way."""
        ended = super().has_ended(timeout)
        if ended:
            self._child.collect(0.0)
        return ended

    def wait(self, timeout: float) -> int | None:
        """Its exit status (negative for a signal), or None if it is not known after `timeout` seconds.

        Raises ToolError if it could not be started at all.
        """
        return self._child.wait(time.monotonic() + timeout)


def start_piped(command: Command, on_line: Callable[[str], None], newline: str | None = None) -> PipedProcess:
    """Start a program that talks with us; see `PipedProcess`. Raises ToolMissing, ToolError.

    With a `newline` only that ends a line of its stdout, and not each character that may.
    """
    return PipedProcess(lambda ends: _started(command, ends), on_line, newline, command.kept)


def start_piped_caged(job: Job, on_line: Callable[[str], None]) -> PipedProcess:
    """The same for a job in a cage; without one where none is available. It begins later.

    Raises ToolError, Unguarded.
    """
    is_caged = can_cage()
    return PipedProcess(lambda ends: Caged(job, ends, is_caged=is_caged), on_line)


def _piped(start: Callable[[Sequence[int]], Child]) -> tuple[Child, int, int, int]:
    """What was started, and our ends of its stdin, stdout and stderr."""
    ends: list[int] = []
    try:
        for _ in range(3):
            ends += os.pipe()
        theirs_in, to, out, theirs_out, err, theirs_err = ends
        child = start((theirs_in, theirs_out, theirs_err))
        ends = [theirs_in, theirs_out, theirs_err]
    except OSError as error:  # we have too many open: only what was to be started suffers from it
        raise ToolError(f"a process could not be started: {error.strerror}", hint_for(error.errno)) from None
    finally:
        for end in ends:
            os.close(end)
    return child, to, out, err


def _started(command: Command, ends: Sequence[int]) -> Child:
    return Child(spawn(found(command.argv[0]), command, ends))


def _write(to: int, next_line: Callable[[], str | None]) -> None:
    with suppress(BrokenPipeError), open(to, "w", encoding="utf-8", errors="surrogateescape") as pipe:
        while (line := next_line()) is not None:
            pipe.write(line)
            pipe.flush()


def _read(end: int, on_line: Callable[[str], None], newline: str | None = None) -> None:
    with open(end, encoding="utf-8", errors="surrogateescape", newline=newline) as lines:
        for line in lines:
            on_line(line)
