"""The journal of the run under way, so that the next one knows how far a killed one came.

One JSON line an event, truncated when a run begins. It is never a source of truth about mounts or snapshots: those
are read from the mount table and the media.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext, suppress
from typing import Any

from drbdbackup import plain_file, verbose
from drbdbackup.errors import Damaged

BEGUN = "begun"
_LARGEST = 16 << 20  # bytes


class Journal:
    """Appends events; each is with the kernel when `event` returns."""

    def __init__(self, file: str, run: str) -> None:
        """Begin the journal of `run` anew (0600)."""
        self._run = run
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def event(self, name: str, **fields: Any) -> None:
        """Write one event. Without room for more than the first, only that one is kept."""
        verbose.tell(" ".join([self._run, name, *map(str, fields.values())]))
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
        whole, _, _ = plain_file.content(file, _LARGEST).rpartition(b"\n")
    except (OSError, Damaged):
        return None
    events = [plain_file.json_object(line) for line in whole.split(b"\n")]
    if any(event is None or event.get("event") == "ended" for event in events):
        return None
    return events[0]
