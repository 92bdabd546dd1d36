"""The cage of a target that has hooks: it is told its job when the before-hooks have ended well, and not before.

They run in a thread, so that the walk and the other targets wait for nothing.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import DrbdBackupError
from drbdbackup.pipeline.cage import Cage, Event
from drbdbackup.pipeline.hooks import Hooks

_GOING = 1.0  # seconds that a hook which was killed may take to be gone


class Hooked(Cage):
    """A cage with hooks, or without (None)."""

    def __init__(self, name: str, kind: str, events: queue.Queue[Event], hooks: Hooks | None) -> None:
        """Start the cage; no hook runs before it is told its job."""
        super().__init__(name, kind, events)
        self._hooks = hooks
        self._thread: threading.Thread | None = None

    def tell(self, command: dict[str, Any]) -> None:
        """Send it the job, after the hooks, or a command."""
        if not self._hooks or self._thread is not None:
            return super().tell(command)
        self.heard_at = math.inf  # a hook has a deadline of its own
        self._thread = threading.Thread(target=self._prepare, args=(self._hooks, command), daemon=True)
        return self._thread.start()

    def strike(self) -> None:
        """KILL it, and the hook that is at work, without waiting."""
        super().strike()
        if self._hooks:
            self._hooks.strike()

    def kill(self, grace: float = proc.GRACE) -> bool:
        """End it now; no hook begins any more."""
        self.ended = True
        if self._hooks and self._thread is not None:
            self._hooks.strike()
            self._thread.join(_GOING)
        return super().kill(grace)

    def lingers(self) -> bool:
        """Whether a process of it or of a hook is left."""
        return super().lingers() or bool(self._hooks and self._hooks.lingers())

    def _prepare(self, hooks: Hooks, job: dict[str, Any]) -> None:
        try:
            hooks.before()
        except DrbdBackupError as error:
            if not self.ended:
                self._put(Event(self.name, "error", error.as_document()))
            return
        self.heard_at = time.monotonic()
        if not self.ended:
            super().tell(job)
