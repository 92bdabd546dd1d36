"""The shrink gate: a source that is suddenly much smaller is held back, so that it pushes no good copies out."""

from __future__ import annotations

from drbdbackup.errors import PartialResult
from drbdbackup.model import amount
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.ledger import Ledger
from drbdbackup.pipeline.order import Order

_HINT = "Is the volume what it should be? If it is: `drbdbackup run --accept-shrink`"


class ShrinkGate:
    """Of one run; `held` says why nothing of it is published, None if all is well (or nobody was asked yet)."""

    def __init__(self, order: Order, ledger: Ledger) -> None:
        """Held against what `ledger` knows of the last complete copy."""
        self.held: PartialResult | None = None
        self._order = order
        self._ledger = ledger

    def judge(self, files: int, size: int) -> None:
        """The walk found so many files and bytes (`size`)."""
        if why := self.why_small(files, size):
            self.held = PartialResult(f"{self._order.resource.source} is suspiciously small: {why}", _HINT)

    def why_small(self, files: int, size: int) -> str:
        """Why that is suspicious, or nothing."""
        if self._order.accept_shrink or self._order.purpose:
            return ""
        return shrunk(self._ledger.last_complete(), files, size, self._order.config.limits.shrink)


def shrunk(before: Copy | None, files: int, size: int, share: float) -> str:
    """Why a source looks suspiciously small against the last complete copy: it has less than this share of it.

    "" if it does not. `size` is in bytes.
    """
    if before is None:
        return ""
    if files < before.files * share:
        return f"it has {files:,} files, the last complete copy has {before.files:,}"
    if size < before.bytes * share:
        return f"it has {amount.size(size)}, the last complete copy has {amount.size(before.bytes)}"
    return ""
