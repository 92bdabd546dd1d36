"""Holds a stream of bytes to a rate. It only ever sleeps for as long as the stream is ahead of it."""

from __future__ import annotations

import time

_BURST = 0.5  # seconds of idleness that count as credit


class Pace:
    """One stream: `rate` is in bytes a second, 0 for any."""

    def __init__(self, rate: int) -> None:
        """It begins with nothing saved up."""
        self._rate = rate
        self._due_at = time.monotonic()

    def spend(self, count: int) -> None:
        """So many bytes came by; what was taken back (below 0) is no credit."""
        if not self._rate or count <= 0:
            return
        now = time.monotonic()
        self._due_at = max(self._due_at, now - _BURST) + count / self._rate
        if self._due_at > now:
            time.sleep(self._due_at - now)
