"""What `-v` shows: each step as it is taken, on stderr. Only the process that was asked says it, none of its cages."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_asked: list[int] = []  # the process that was started with -v


def ask() -> None:
    """From now on this process says what it does."""
    _asked.append(os.getpid())


def tell(step: str) -> None:
    """Say one step, if somebody wants to know. Never raises for what becomes of it."""
    if os.getpid() in _asked:
        plain = "".join(letter if letter.isprintable() else "?" for letter in step)
        with suppress(OSError):
            os.write(sys.stderr.fileno(), f"-- {plain}\n".encode(errors="replace"))
