"""Which copies may make way for a new one before that is there, and which may stand in for a target's last ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import Retention, TargetConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.full_target import vouching, would_leave_none
from drbdbackup.pipeline.backup.run_facts import may_go_first

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
DISK = TargetConfig(name="disk", kind="disk")


def copy(sequence: int, target: str = "disk", holder: str = "www4", **fields: object) -> Copy:
    made = NOW - timedelta(days=10 - sequence)
    known = Copy(
        snapshot=f"2026110{sequence}T043000Z-www4", resource="raid", sequence=sequence, node="www4", target=target,
        kind="disk", medium=f"medium-{target}", location="", holder=holder, path="/", started_at=made, finished_at=made,
        files=1, bytes=1,
    )  # fmt: skip
    return replace(known, **fields)  # type: ignore[arg-type]


def gone_first(known: list[Copy], minimum: int, **policy: int) -> list[int]:
    """The sequences of those that may go, in their order, before number 9 is there."""
    kept = Retention(**{"daily": 0, "weekly": 0, "monthly": 0, **policy}, minimum=minimum)
    found = may_go_first(known, copy(9), kept, NOW)
    return [int(snapshot[7]) for snapshot, _ in found]


def test_the_oldest_go_first_and_the_floor_stays() -> None:
    known = [copy(number) for number in (5, 3, 1, 4, 2)]
    assert gone_first(known, 2) == [1, 2, 3]
    assert gone_first(known, 4) == [1]
    assert gone_first(known, 5) == []


def test_the_new_copy_is_no_part_of_the_floor_as_long_as_it_is_not_there() -> None:
    assert gone_first([copy(1), copy(2)], 2) == []
    assert gone_first([copy(1)], 1) == []


def test_what_a_rule_still_keeps_once_the_new_one_counts_stays() -> None:
    known = [copy(number) for number in (1, 2, 3, 4)]
    assert gone_first(known, 1, daily=3) == [1, 2]


def test_the_last_verified_one_stays() -> None:
    known = [copy(1), copy(2, verified_at=NOW), copy(3), copy(4)]
    assert gone_first(known, 1) == [1, 3]


def test_those_that_lack_files_do_not_count_towards_the_floor() -> None:
    known = [copy(1), copy(2), copy(3, problems=1), copy(4, problems=1)]
    assert gone_first(known, 2) == [3]


def test_a_pinned_one_makes_no_room() -> None:
    assert gone_first([copy(1, pinned_at=NOW), copy(2), copy(3), copy(4)], 1) == [2, 3]
    assert gone_first([copy(1), copy(2), copy(3), copy(4)], 1, last=3) == [1, 2]


VOUCHED = [copy(4), copy(3)]


@pytest.mark.parametrize(("other", "vouches"), [
    (copy(4, "nas", ""), True),
    (copy(5, "nas", ""), True),
    (copy(3, "nas", ""), False),
    (copy(5, "nas", "", damaged_at=NOW), False),
    (copy(5, "nas", "", problems=1), False),
    (copy(5, "nas", "www5"), False),
    (copy(5, "old-nas", ""), False),
    (copy(5, "second", "www4"), True),
    (copy(5, "disk", "www5", medium="medium-of-www5"), False),
])  # fmt: skip
def test_only_what_is_as_new_whole_undamaged_and_here_may_vouch(other: Copy, vouches: bool) -> None:
    found = vouching([other, *VOUCHED], DISK, "medium-disk", "www4", ["disk", "nas", "second"])
    assert found == ([other] if vouches else [])


def test_each_target_vouches_with_its_newest() -> None:
    copies = [copy(6, "nas", ""), copy(5, "second"), copy(4, "nas", ""), *VOUCHED]
    found = vouching(copies, DISK, "medium-disk", "www4", ["disk", "nas", "second"])
    assert [(one.target, one.sequence) for one in found] == [("nas", 6), ("second", 5)]


@pytest.mark.parametrize(("giving", "vouches", "granted", "refused"), [
    ("disk", "nas", {}, False),
    ("disk", "other", {"other": "disk"}, True),
    ("disk", "other", {"other": "nas"}, True),
    ("disk", "nas", {"other": "disk"}, True),
    ("disk", "nas", {"other": "nas"}, False),
])  # fmt: skip
def test_a_voucher_keeps_what_it_has(giving: str, vouches: str, granted: dict[str, str], refused: bool) -> None:
    assert would_leave_none(giving, vouches, granted) is refused
