"""What `-v` shows: each step as it is taken, on stderr. Only the process that was asked says it, none of its cages.

What a command has waited for for a while is said to whoever typed it, with or without -v.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

LONG = 3.0  # seconds of a wait before somebody wants to know what for
_asked: list[int] = []  # the process that was started with -v
_attended: list[int] = []  # the one that somebody waits for who sees nothing else of it


def enable() -> None:
    """From now on this process says what it does."""
    _asked.append(os.getpid())


def tell_waits() -> None:
    """From now on this process says what it has waited for for a while."""
    _attended.append(os.getpid())


def tell_wait(what: str, most: float) -> None:
    """Say what is waited for, which is given up after `most` seconds in all."""
    if os.getpid() in (*_asked, *_attended):
        _say(f"drbdbackup: waiting for {what}, {most:.0f} s at most")


def tell(step: str) -> None:
    """Say one step, if somebody wants to know. Never raises for what becomes of it."""
    if os.getpid() in _asked:
        _say(f"-- {step}")


def _say(line: str) -> None:
    plain = "".join(letter if letter.isprintable() else "?" for letter in line)
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{plain}\n".encode(errors="replace"))
