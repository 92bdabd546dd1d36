"""Starts a program that nobody waits for: its input is in memory, its output is discarded, and it ends by itself."""

from __future__ import annotations

import os
from contextlib import suppress

from drbdbackup.errors import ToolError
from drbdbackup.proc.command import Command, found
from drbdbackup.proc.start_program import spawn


def start_in_background(command: Command) -> None:
    """Start it, if that is possible. `stdin` is in a file in memory, so that it is not fed by us."""
    given = os.memfd_create("stdin")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with suppress(ToolError):
            os.write(given, command.stdin)
            os.lseek(given, 0, os.SEEK_SET)
            spawn(found(command.argv[0]), command, (given, nothing, nothing))
    finally:
        os.close(given)
        os.close(nothing)
