"""Runs a program with our own stdin, stdout and stderr in its hands, for a forced command that a peer talks through."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from drbdbackup.errors import ToolTimedOut
from drbdbackup.proc.caging import Caged, Job, can_cage
from drbdbackup.proc.child import Child
from drbdbackup.proc.command import FOREVER, Command, found
from drbdbackup.proc.group import io_bytes
from drbdbackup.proc.start_program import spawn

_LOOK = 5.0  # seconds between two looks whether it still moves


def pass_through(command: Command, patience: float) -> int:
    """Run it to its end and return its exit status, negative for a signal; no exit status is an error here.

    Raises ToolMissing, or ToolTimedOut once nothing has been read or written by it for `patience` seconds, or after the
    command's `timeout`: it was killed then, or abandoned in D state.
    """
    pid = spawn(found(command.argv[0]), command)
    return _watched(command.name, Child(pid), patience, command.timeout)


def pass_on(command: Command, on_piece: Callable[[bytes], object], most: int) -> int:
    """Run it with our own stdin and stderr, give its output to `on_piece` as it comes, up to `most` bytes at once.

    Its exit status, negative for a signal; it is no error here. It is of our group, and whoever ends that ends both; a
    reader that is gone ends it, too. Raises ToolMissing.
    """
    output, into = os.pipe()
    try:
        pid = spawn(found(command.argv[0]), command, (0, into, 2), own_session=False)
    finally:
        os.close(into)
    with suppress(BrokenPipeError):
        while piece := os.read(output, most):
            on_piece(piece)
    os.close(output)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


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
    activity, moved_at = -1, time.monotonic()
    while True:
        status = child.wait(min(until, time.monotonic() + _LOOK))
        if status is not None:
            return status
        before, activity = activity, _activity(child.pid)
        now = time.monotonic()
        moved_at = now if activity != before else moved_at
        if now - moved_at > patience or now >= until:
            raise ToolTimedOut(f"{name}: nothing moved for {now - moved_at:.0f} s")


def _activity(pid: int) -> int:
    """Bytes that it and all that it started have read and written so far (proc(5), /proc/PID/io)."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    total = 0
    for one in parents:
        if _is_from(one, pid, parents):
            with suppress(OSError, ValueError):
                total += io_bytes(one)
    return total


def _is_from(one: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in parents:
        if one == ancestor:
            return True
        one = parents.get(one, 0)
    return False
