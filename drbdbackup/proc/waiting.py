"""Waiting with a deadline, for bytes and for the ends of processes; what does not end is abandoned."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import time
from contextlib import suppress


def read_until(end: int, deadline: float) -> bytes | None:
    """All bytes up to the end of the stream, or None if the deadline came first."""
    heard = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        try:
            while selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(end, 65536)
                if not chunk:
                    return bytes(heard)
                heard += chunk
            return None
        finally:
            os.close(end)


def reap(pid: int, deadline: float) -> int | None:
    """The exit status of a child of ours, negative for a signal; None if it has not ended by the deadline."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end_group(pid: int) -> None:
    """KILL a child's group; reap it if it goes, abandon it if it cannot."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        reap(pid, time.monotonic() + 1.0)


def leave(pid: int, deadline: float) -> None:
    """Wait for the own end of a child that must not be killed; TERM and a last moment where the deadline has come."""
    with suppress(ChildProcessError):
        if reap(pid, deadline) is None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            reap(pid, time.monotonic() + 1.0)
