"""Runs a program that leaves others running: the start script of a service.

The processes that it leaves keep its stdout and stderr open, so only the script's own end is waited for.
"""

from __future__ import annotations

import os
import signal
import time

from drbdbackup.errors import ToolTimedOut
from drbdbackup.proc.command import Command, failure, found
from drbdbackup.proc.start_program import SIGNALS, spawn
from drbdbackup.proc.waiting import end_group, reap

_KEPT = 1 << 16  # bytes


def run_start_script(command: Command) -> None:
    """Run it to its own end. Raises ToolMissing, ToolTimedOut (its group was killed), or ToolError, with its stderr."""
    program = found(command.argv[0])
    stderr = os.memfd_create("stderr")
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        pid = spawn(program, command, (nothing, nothing, stderr), signals=(*SIGNALS, signal.SIGUSR1))
        try:
            status = reap(pid, time.monotonic() + command.timeout)
        except BaseException:
            end_group(pid)
            raise
        if status is None:
            end_group(pid)
            raise ToolTimedOut(f"{' '.join(command.argv)}: it did not end within {command.timeout:g} s")
        if status not in command.ok:
            raise failure(command, status, os.pread(stderr, _KEPT, 0).decode(errors="replace").splitlines())
    finally:
        os.close(stderr)
        os.close(nothing)
