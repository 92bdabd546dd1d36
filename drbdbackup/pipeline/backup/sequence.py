"""The sequence of a run's snapshots: by that, not by clocks that differ, everybody knows which one is the newest.

It has to be higher than any that is known and than any on the targets themselves: a crash may come between a snapshot
and its fact. So none is given before every target has shown what lies on it; but a slow one holds the others up for a
moment only, and gets a higher one if it then turns out to need it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.cage.supervisor import Event


class SequenceNumbers:
    """Of one run."""

    def __init__(self, targets: Iterable[str], patience: float) -> None:
        """The first copy that is ready waits so many seconds for these to be opened."""
        self._unopened = set(targets)
        self._highest: dict[str, int] = {}
        self._patience = patience
        self._until = 0.0
        self._early: list[Event] = []
        self._given = 0

    @property
    def has_begun(self) -> bool:
        """Whether a sequence was given."""
        return self._given > 0

    def opened(self, target: str, there: Iterable[Copy]) -> None:
        """What lies on a target."""
        self._unopened.discard(target)
        self._highest[target] = max((copy.sequence for copy in there), default=0)

    def left_out(self, target: str) -> None:
        """A target has failed: nobody waits for it."""
        self._unopened.discard(target)

    def holds_up(self, ready: Event) -> bool:
        """Whether a copy that is ready has to wait; then its event comes back from `let_go`."""
        if self.has_begun or not self._unopened:
            return False
        self._until = self._until or time.monotonic() + self._patience
        self._early.append(ready)
        return True

    def let_go(self) -> list[Event]:
        """The events of those copies that need to wait no longer."""
        if not self._early or (self._unopened and time.monotonic() < self._until):
            return []
        early, self._early = self._early, []
        self._unopened.clear()
        return early

    def give(self, target: str, known: int) -> int:
        """The sequence of a copy that is ready; `known` is the highest that any snapshot was ever known to have."""
        if not self.has_begun:
            self._given = max([known, *self._highest.values()]) + 1
        self._given = max(self._given, self._highest.get(target, 0) + 1)
        return self._given
