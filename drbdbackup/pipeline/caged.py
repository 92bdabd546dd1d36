"""The inside of a cage: reads one job of the kind in argv from stdin, does it, tells events to stdout as JSON lines.

This is what touches the source and the targets. It must end at once on SIGTERM (undoing its mounts on the way) and
must print nothing but events.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from drbdbackup.errors import DrbdBackupError, Interrupted, Stalled, TargetFull
from drbdbackup.pipeline.source import let_go

JOBS = frozenset({
    "walk", "copy", "foresee", "verify", "restore", "prune", "inspect", "send", "find", "scrub", "fetch", "diff",
    "drill", "dump", "load", "flush",
})
PROGRESS_EVERY = 0.25
BEAT = 10.0  # seconds
_NEARLY_NOTHING = 1 << 16  # bytes


class Channel:
    """The line to the supervisor. A supervisor that is gone ends the job: nobody would publish it."""

    def __init__(self, heard: int, told: int) -> None:
        """Read commands from the descriptor `heard`, write events to `told`."""
        self._heard = heard
        self._told = told
        self._buffer = b""
        self._telling = threading.Lock()
        self._last_progress = 0.0

    def tell(self, event: str, **fields: Any) -> None:
        """Send an event."""
        data = json.dumps({"event": event, **fields}).encode() + b"\n"
        with self._telling:
            while data:
                data = data[os.write(self._told, data) :]

    def progress(self, **fields: Any) -> None:
        """Send how far it is, but not too often."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY:
            self._last_progress = now
            self.tell("progress", **fields)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say, now and then, that we are at work, as long as we are: removing a million files says nothing else.

        What hangs uses no processor time, and then nothing is said. Not for work that polls.
        """
        over = threading.Event()

        def beat() -> None:
            used = -1.0
            while not over.wait(BEAT):
                before, used = used, sum(os.times()[:4])
                if used > before:
                    self.tell("alive")

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    def hear(self, patience: float = float("inf")) -> dict[str, Any]:
        """The supervisor's next command; Interrupted if it is gone, Stalled if it says nothing for so long."""
        until = time.monotonic() + patience
        while b"\n" not in self._buffer:
            left = None if patience == float("inf") else max(0.0, until - time.monotonic())
            if not select.select([self._heard], [], [], left)[0]:
                raise Stalled("the supervisor says nothing")
            piece = os.read(self._heard, 65536)
            if not piece:
                raise Interrupted("the supervisor is gone")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        command: dict[str, Any] = json.loads(line)
        return command


def main() -> NoReturn:
    """Do the job that stdin tells; exit status 0 if it was done, 1 if an error event was told."""
    told = os.dup(1)
    os.dup2(2, 1)
    channel = Channel(0, told)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, _stop)
    job: dict[str, Any] = {}
    try:
        module = importlib.import_module(f"drbdbackup.pipeline.{_known(sys.argv[1])}")
        job = channel.hear()
        if job["caged"]:
            let_go(job)
        result = module.do(job, channel)
        channel.tell("done", **(result or {}))
    except DrbdBackupError as error:
        channel.tell("error", **error.as_document())
        os._exit(1)
    except OSError as error:
        channel.tell("error", **_of_system(error, job).as_document())
        os._exit(1)
    except Exception as error:  # noqa: BLE001  the cage's wall: a bug must reach the supervisor as an event
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        channel.tell("error", error="DrbdBackupError", message=message, hint="This is a bug: please report it.")
        os._exit(1)
    os._exit(0)  # all is undone, and Python would take its time to clear up


def _known(job: str) -> str:
    if job not in JOBS:
        raise DrbdBackupError(f"there is no job {job!r}")
    return job


def _stop(signum: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signum)


def _of_system(error: OSError, job: dict[str, Any]) -> DrbdBackupError:
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    if error.errno in (28, 122):
        ours = job.get("scratch") or os.path.dirname(job.get("spool", ""))
        if ours and _is_full(ours):
            told = "no space is left in the state folder, where a run keeps its lists"
            return DrbdBackupError(told, "Free some space on the disk that holds state_dir.")
        return TargetFull(f"{where}no space is left", "Remove something there, or let it keep fewer copies.")
    return DrbdBackupError(f"{where}{error.strerror}", "Is the medium well? Look at dmesg.")


def _is_full(folder: str) -> bool:
    """Whether nearly nothing can be written there; a medium's lack of space says nothing of our own disk."""
    try:
        seen = os.statvfs(folder)
    except OSError:
        return False
    return seen.f_bavail * seen.f_frsize < _NEARLY_NOTHING


if __name__ == "__main__":
    main()
