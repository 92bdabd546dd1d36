"""The supervisor's wait for one caged job that may work for hours: as long as it moves, and as long as it may.

A job that says nothing for too long is ended, or abandoned if it hangs in the kernel; so is one whose volume goes away.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from drbdbackup.errors import Interrupted, Stalled
from drbdbackup.pipeline.cage import POLL, Cage, Event

OPENING, OPENED = "opening", "opened"
_AT_ONCE = 0.5  # seconds of grace where a failover waits


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a word after which a job is given up: while it opens its medium, and at any other time.

    `grace` is what it gets to undo things when it is ended.
    """

    opening: float
    working: float
    grace: float = 2.0


def attend(
    name: str, job: dict[str, Any], patience: Patience, hear: Callable[[Event], None],
    lost: Callable[[], str] = lambda: "", begun: Callable[[Cage], None] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Do a job to its end and return what it says last; `hear` is told its other events.

    `lost` says why it must end at once, "" for as long as it may go on; `begun` gets the cage, for who has to strike it
    without being asked. Raises the job's error, Stalled, or Interrupted
    for what `lost` says.
    """
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage(name, job["job"], events)
    begun(cage)
    cage.tell(job)
    wait, grace = patience.working, patience.grace
    try:
        while True:
            if why := lost():
                grace = min(grace, _AT_ONCE)
                raise Interrupted(why, "What was restored until then stays: complete it where it is Primary.")
            if monotonic() - cage.heard_at > wait:
                raise Stalled(f"{name}: nothing moved for {wait:g} s", "Is the medium well? Look at dmesg.")
            try:
                event = events.get(timeout=POLL)
            except queue.Empty:
                cage.check()
                continue
            if event.name == "error":
                raise event.error
            if event.name == "done":
                return event.fields
            wait = {OPENING: patience.opening, OPENED: patience.working}.get(event.name, wait)
            hear(event)
    finally:
        cage.kill(grace)
