"""A run's copies have the same sequence, higher than all that is known and all that lies on its targets."""

from __future__ import annotations

from msgspec.structs import replace

from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.sequence import SequenceNumbers
from drbdbackup.pipeline.cage.supervisor import Event
from drbdbackup.pipeline.snapshot.copy_protocol import CopyCounts, Ready
from tests.known_copy import COPY

FOREVER, NEVER = 1e9, 0.0
READY = Event("disk", Ready(CopyCounts(1, 1, 1, 0, 0, 0), 1, 1, 1))


def found(*sequences: int) -> list[Copy]:
    return [replace(COPY, sequence=number) for number in sequences]


def test_it_is_one_more_than_the_highest_that_is_known_or_lies_on_a_target() -> None:
    numbers = SequenceNumbers(["nas", "disk"], NEVER)
    numbers.opened("nas", found(3, 8))
    numbers.opened("disk", found())
    assert numbers.give("disk", known=5) == 9
    assert numbers.give("nas", known=9) == 9


def test_a_copy_that_is_ready_waits_until_every_target_is_opened_or_has_failed() -> None:
    numbers = SequenceNumbers(["nas", "disk", "dead"], FOREVER)
    numbers.opened("disk", found(1))
    assert numbers.holds_up(READY)
    assert numbers.let_go() == []
    numbers.left_out("dead")
    assert numbers.let_go() == []
    numbers.opened("nas", found(7))
    assert numbers.let_go() == [READY]
    assert numbers.let_go() == []
    assert not numbers.holds_up(READY)
    assert numbers.give("disk", known=1) == 8


def test_it_waits_no_longer_than_that_and_who_comes_late_gets_a_higher_one_if_it_must() -> None:
    numbers = SequenceNumbers(["nas", "disk"], NEVER)
    numbers.opened("disk", found(1))
    assert numbers.holds_up(READY)
    assert numbers.let_go() == [READY]
    assert numbers.give("disk", known=1) == 2
    assert not numbers.holds_up(Event("nas", READY.message))
    numbers.opened("nas", found(7))
    assert numbers.give("nas", known=2) == 8
