"""The journal of the run under way, so that the next one knows how far a killed one came.

One JSON line an event, truncated when a run begins. It is never a source of truth about mounts or snapshots: those
are read from the mount table and the media.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext, suppress
from typing import Any

BEGUN = "begun"


class Journal:
    """Appends events; each is with the kernel when `event` returns."""

    def __init__(self, file: str, run: str) -> None:
        """Begin the journal of `run` anew (0600)."""
        self._run = run
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def event(self, name: str, **fields: Any) -> None:
        """Write one event down. Where there is no room for more than the first, that one has to do."""
        line = json.dumps({"run": self._run, "event": name, **fields}).encode() + b"\n"
        with nullcontext() if name == BEGUN else suppress(OSError):
            os.write(self._fd, line)

    def close(self) -> None:
        """Say that the run has ended, however it did; without room to say so there is no journal any more."""
        try:
            os.write(self._fd, json.dumps({"run": self._run, "event": "ended"}).encode() + b"\n")
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, 0)
        finally:
            os.close(self._fd)


def unfinished(file: str) -> dict[str, Any] | None:
    """The first event of a run that never ended (its process was killed), or None."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as lines:
            events = [json.loads(line) for line in lines if line.endswith(b"\n")]
    except (OSError, ValueError):
        return None
    if not events or any(event.get("event") == "ended" for event in events):
        return None
    first = events[0]
    return first if isinstance(first, dict) else None
