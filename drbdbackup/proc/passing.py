"""Runs a program with our own stdin, stdout and stderr in its hands, for a forced command that a peer talks through."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from drbdbackup.errors import ToolError, ToolTimedOut
from drbdbackup.proc.command import Command, environment, found
from drbdbackup.proc.waiting import end_group, reap

_LOOK = 5.0  # seconds between two looks whether it still moves
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)


def pass_through(command: Command, patience: float) -> int:
    """Run it to its end and return its exit status, negative for a signal; no exit status is an error here.

    Raises ToolMissing, or ToolTimedOut once nothing has been read or written by it for `patience` seconds, or after the
    command's `timeout`: it was killed then, or abandoned in D state.
    """
    program = found(command.argv[0])
    try:
        pid = os.posix_spawn(program, command.argv, environment(command.env), setsid=True, setsigdef=_SIGNALS)
    except OSError as error:
        raise ToolError(f"{command.name} could not be started: {error.strerror}") from None
    try:
        return _watched(command, pid, patience)
    except BaseException:
        end_group(pid)
        raise


def _watched(command: Command, pid: int, patience: float) -> int:
    until = time.monotonic() + command.timeout
    stirred, moved_at = -1, time.monotonic()
    while True:
        status = reap(pid, min(until, time.monotonic() + _LOOK))
        if status is not None:
            return status
        before, stirred = stirred, _stirred(pid)
        now = time.monotonic()
        moved_at = now if stirred != before else moved_at
        if now - moved_at > patience or now >= until:
            raise ToolTimedOut(f"{command.name}: nothing moved for {now - moved_at:.0f} s")


def _stirred(pid: int) -> int:
    """Bytes that it and all that it started have read and written so far (proc(5), /proc/PID/io)."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as told:
            parents[int(name)] = int(told.read().rpartition(b")")[2].split()[1])
    total = 0
    for one in parents:
        if _is_from(one, pid, parents):
            with suppress(OSError, ValueError), open(f"/proc/{one}/io", "rb") as counters:
                total += sum(int(line.split()[1]) for line in counters if line[1:5] == b"char")
    return total


def _is_from(one: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in parents:
        if one == ancestor:
            return True
        one = parents.get(one, 0)
    return False
