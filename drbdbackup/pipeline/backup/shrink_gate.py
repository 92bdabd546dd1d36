"""The shrink gate: a source that is suddenly much smaller is held back, so that it pushes no good copies out."""

from __future__ import annotations

from drbdbackup.errors import Held, PartialResult
from drbdbackup.model import amount
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.order import Order
from drbdbackup.pipeline.backup.run_facts import RunFacts

_HINT = "Check the volume. If it is as it should be: `drbdbackup run --accept-shrink`"


class ShrinkGate:
    """Of one run; `held` says why nothing of it is published, None if it may be published, or is not judged yet."""

    def __init__(self, order: Order, facts: RunFacts) -> None:
        """Held against what `facts` knows of the last complete copy."""
        self.held: PartialResult | None = None
        self._order = order
        self._facts = facts

    def judge(self, files: int, size: int, allocated: int) -> None:
        """The walk found so many files and bytes (`size`), so many of them `allocated`."""
        if why := self.why_small(files, size, allocated):
            self.held = Held(f"{self._order.resource.source} is suspiciously small: {why}", _HINT)

    def why_small(self, files: int, size: int, allocated: int) -> str:
        """Why that is suspicious, or nothing.

        It has to be so against this node's own last one, too: another one must not hold every run with a false number.
        """
        if self._order.accept_shrink or self._order.purpose:
            return ""
        share = self._order.config.limits.shrink
        found = [shrunk(before, files, size, allocated, share) for before in self._facts.last_complete()]
        return found[0] if all(found) and found else ""


def shrunk(before: Copy | None, files: int, size: int, allocated: int, share: float) -> str:
    """Why a source looks suspiciously small against the last complete copy: it has less than this share of it.

    "" if it does not. `size` and `allocated` are bytes with and without holes: these count, or whoever can write to the
    volume could hold every later run with one file of holes, or let real data go unnoticed beside it.
    """
    if before is None:
        return ""
    if files < before.files * share:
        return f"it has {amount.count(files, 'file')}, the last complete copy has {before.files:,}"
    if before.allocated is not None:
        if allocated >= before.allocated * share:
            return ""
        return f"it has {amount.size(allocated)}, the last complete copy has {amount.size(before.allocated)}"
    if size < before.bytes * share:
        return f"it has {amount.size(size)}, the last complete copy has {amount.size(before.bytes)}"
    return ""
