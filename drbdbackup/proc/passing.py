"""Runs a program with our own stdin, stdout and stderr in its hands, for a forced command that a peer talks through."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from drbdbackup.errors import ToolTimedOut
from drbdbackup.proc.caging import Caged, Job, can_cage
from drbdbackup.proc.child import Child
from drbdbackup.proc.command import FOREVER, Command, found
from drbdbackup.proc.group import moved
from drbdbackup.proc.start_program import spawn

_LOOK = 5.0  # seconds between two looks whether it still moves


def pass_through(command: Command, patience: float) -> int:
    """Run it to its end and return its exit status, negative for a signal; no exit status is an error here.

    Raises ToolMissing, or ToolTimedOut once nothing has been read or written by it for `patience` seconds, or after the
    command's `timeout`: it was killed then, or abandoned in D state.
    """
    pid = spawn(found(command.argv[0]), command)
    return _watched(command.name, Child(pid), patience, command.timeout)


def pass_through_caged(job: Job, patience: float) -> int:
    """The same for a job in a cage; without one where none is available. Raises ToolError, ToolTimedOut, Unguarded."""
    return _watched(job.name, Caged(job, (0, 1, 2), is_caged=can_cage()), patience, FOREVER)


def _watched(name: str, child: Child, patience: float, timeout: float) -> int:
    try:
        return _ended(name, child, patience, timeout)
    except BaseException:
        child.kill()
        raise


def _ended(name: str, child: Child, patience: float, timeout: float) -> int:
    until = time.monotonic() + timeout
    stirred, moved_at = -1, time.monotonic()
    while True:
        status = child.wait(min(until, time.monotonic() + _LOOK))
        if status is not None:
            return status
        before, stirred = stirred, _stirred(child.pid)
        now = time.monotonic()
        moved_at = now if stirred != before else moved_at
        if now - moved_at > patience or now >= until:
            raise ToolTimedOut(f"{name}: nothing moved for {now - moved_at:.0f} s")


def _stirred(pid: int) -> int:
    """Bytes that it and all that it started have read and written so far (proc(5), /proc/PID/io)."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as told:
            parents[int(name)] = int(told.read().rpartition(b")")[2].split()[1])
    total = 0
    for one in parents:
        if _is_from(one, pid, parents):
            with suppress(OSError, ValueError):
                total += moved(one)
    return total


def _is_from(one: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in parents:
        if one == ancestor:
            return True
        one = parents.get(one, 0)
    return False
