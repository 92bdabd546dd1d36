"""How much of a copy is done before it is brought to the medium and written down, for the run after a crash.

Each time costs a sync, and where rsync copies, another start of it. So what a crash can cost grows with what has been
done: about an eighth of it, and never more than a gigabyte.
"""

from __future__ import annotations

import time

from msgspec import Struct, field

MOST_ENTRIES = 20_000
MOST_BYTES = 1 << 30
_SHARE = 8
_LEAST_ENTRIES = 2_000
_LEAST_BYTES = 1 << 26
_LEAST_SECONDS = 4.0


class Checkpoints(Struct):
    """Of one copy. `is_steady`: entries are copied as they come, so the time that has gone by says how much is done."""

    is_steady: bool
    entries: int = 0
    bytes: int = 0
    _began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def is_due(self, entries: int, size: int) -> bool:
        """Whether it is time, with so many entries and bytes since the last."""
        if entries >= MOST_ENTRIES or size >= MOST_BYTES:
            return True
        if self.is_steady:
            return time.monotonic() - self._last >= max(_LEAST_SECONDS, (self._last - self._began) / _SHARE)
        return entries >= max(_LEAST_ENTRIES, self.entries // _SHARE) or size >= max(_LEAST_BYTES, self.bytes // _SHARE)

    def kept(self, entries: int, size: int) -> None:
        """So much has been written down just now."""
        self.entries += entries
        self.bytes += size
        self._last = time.monotonic()
