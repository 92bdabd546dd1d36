"""A person at a terminal, played: waits for a question and answers it."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Callable

PATIENCE = 60.0


def on_a_terminal(
    command: str, question: str, answer: bytes, meanwhile: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run a shell command on a terminal of its own and answer its question; its exit status and what was seen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", command])
    seen, asked, until = b"", False, time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # EIO: the last one that had it open is gone
            break
        seen += piece
        if not asked and question.encode() in seen:
            asked = True
            meanwhile()
            os.write(terminal, answer)
        if not piece:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode(errors="replace")
