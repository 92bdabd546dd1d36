"""When a target will be full, from what was copied to it lately. Pure, and a forecast only.

What retention removes is not known in bytes, so it is not counted: the day that comes out is the earliest one. Where
too little was measured there is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from drbdbackup.catalog.history import Activity

_WINDOW = timedelta(days=30)
_LEAST = timedelta(days=7)
_LEAST_RUNS = 3
_DAY = 86400.0  # seconds


class Growth(Struct, frozen=True):
    """So many bytes a day were copied to a target, measured over so many days."""

    bytes_a_day: float
    days: float

    def full_in(self, free: int) -> float | None:
        """Days until `free` bytes are used up if nothing is removed; None where nothing grows."""
        return free / self.bytes_a_day if self.bytes_a_day > 0 else None


def growth(done: Sequence[Activity], target: str, node: str, now: datetime) -> Growth | None:
    """Of a target, by what all nodes copied there; of a disk only what its own `node` did ("" for a shared target).

    The very first copy there is not counted: it is the volume, and does not come again.
    """
    copied = sorted(
        (one.started_at, ended.bytes) for one in done if node in ("", one.node)
        for name, ended in one.targets if name == target and ended.bytes is not None
    )[1:]  # fmt: skip
    recent = [(at, size) for at, size in copied if now - at <= _WINDOW]
    if len(recent) < _LEAST_RUNS or now - recent[0][0] < _LEAST:
        return None
    days = (now - recent[0][0]).total_seconds() / _DAY
    return Growth(sum(size for _, size in recent) / days, days)
