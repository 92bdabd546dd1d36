"""A person at a terminal, played: waits for a question and answers it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence

PATIENCE = 60.0
ROWS, COLUMNS = 40, 120


def on_a_terminal(
    command: str, question: str, answer: bytes, meanwhile: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run a shell command on a terminal of its own and answer its question; its exit status and what was seen."""

    def answered() -> bytes:
        meanwhile()
        return answer

    return at_a_terminal(command, [(question, answered)])


def at_a_terminal(
    command: str, steps: Sequence[tuple[str, bytes | signal.Signals | Callable[[], bytes]]]
) -> tuple[int, str]:
    """Run a shell command on a terminal of its own: wait for each text, and then type, or send a signal.

    A text counts if it comes after what was typed before. The exit status, and all that was seen.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    left, seen, at, until = list(steps), b"", 0, time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO: the last one that had it open is gone
            break
        seen += piece
        while left and (found := seen.find(left[0][0].encode(), at)) >= 0:
            (text, act), at = left.pop(0), found
            at += len(text)
            _do(act, pid, terminal)
        if not piece:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode(errors="replace")


def _do(act: bytes | signal.Signals | Callable[[], bytes], pid: int, terminal: int) -> None:
    if isinstance(act, signal.Signals):
        os.kill(pid, act)
    else:
        os.write(terminal, act if isinstance(act, bytes) else act())
