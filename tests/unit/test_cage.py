"""The supervisor's side of a cage."""

from __future__ import annotations

import queue

from drbdbackup.pipeline.cage.protocol import Failed
from drbdbackup.pipeline.cage.supervisor import Cage, Event
from drbdbackup.pipeline.volume.source_protocol import WALK
from tests.played_media import wait_for


class Looking(queue.Queue[Event]):
    """Notes whether the cage counted as ended when an event came."""

    cage: Cage | None = None

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[type, bool]] = []

    def put(self, item: Event, block: bool = True, timeout: float | None = None) -> None:
        wait_for(lambda: self.cage, "the cage")
        assert self.cage is not None
        self.seen.append((type(item.message), self.cage.ended))
        super().put(item, block, timeout)


def test_who_sees_that_a_cage_has_ended_finds_its_last_word() -> None:
    """Else an error is lost now and then, and the target with it counts as done."""
    events = Looking()
    events.cage = cage = Cage("nas", WALK, events)
    try:
        cage._running.write("{}")
        wait_for(lambda: cage.ended, "the end")
        assert events.seen == [(Failed, False)]
        assert events.get_nowait().message.code == "job.protocol"
    finally:
        cage.kill()


def test_what_a_cage_misses_once_it_was_ended_is_no_error_of_the_run() -> None:
    """It may have the time to say that its supervisor is gone, which would be a failover."""
    events: queue.Queue[Event] = queue.Queue()
    cage = Cage("nas", WALK, events)
    cage.ended = True  # as the first thing in its end; the rest is a race
    cage._running.close_input()
    assert cage._running.wait(5.0) is not None
    assert events.empty()
