"""What is said of the targets: the medium, and the room that the next night needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import TargetConfig
from drbdbackup.doctor import clocks, media
from drbdbackup.doctor.clocks import LARGEST_DIFFERENCE, ClockFacts, ShareFacts
from drbdbackup.doctor.media import MediumFacts, Need
from drbdbackup.model.backup import Copy

MIB, GIB = 1 << 20, 1 << 30
NAS = TargetConfig(name="nas", kind="nas", path="/backup")
DISK = TargetConfig(name="disk", kind="disk", device="/dev/sdb1", mountpoint="/saving")
ROOM = Need(GIB, 2 * GIB, full=False)
GOOD = MediumFacts(target=DISK, medium="m1", free=10 * GIB, total=20 * GIB, need=ROOM)
START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


def copy(sequence: int, size: int, target: str = "disk", medium: str = "m1", damaged: bool = False) -> Copy:
    at = START + timedelta(days=sequence)
    return Copy(
        snapshot=f"{at:%Y%m%dT%H%M%SZ}-www4", resource="raid", sequence=sequence, node="www4", target=target,
        kind="disk", medium=medium, location="www4:/dev/sdb1", holder="www4", path="/x", started_at=at, finished_at=at,
        files=10, bytes=size, damaged_at=at if damaged else None,
    )  # fmt: skip


def wrong(facts: MediumFacts) -> dict[str, str]:
    return {one.check: one.state.value for one in media.judge(facts) if one.state.value != "ok"}


def test_a_target_as_it_should_be() -> None:
    assert wrong(GOOD) == {}
    assert [one.check for one in media.judge(GOOD)] == ["target", "not mounted", "room"]
    assert [one.check for one in media.judge(replace(GOOD, target=NAS))] == ["target", "room"]
    small = [*media.judge(replace(GOOD, need=Need(0, 200, full=False)))][-1]
    assert small.because == "10.0 GiB of 20.0 GiB are free; the next copy needs about 200 B"


@pytest.mark.parametrize(("changes", "check", "state"), [
    ({"problem": "/dev/sdb1: No such file or directory", "hint": "Is it plugged in?"}, "target", "fail"),
    ({"problem": "it hangs"}, "target", "fail"),
    ({"objection": "it is the medium m2, m1 is expected"}, "target", "fail"),
    ({"medium": ""}, "target", "warn"),
    ({"mounted": "/mnt"}, "not mounted", "warn"),
    ({"free": GIB - 1}, "room", "fail"),
    ({"free": 2 * GIB - 1}, "room", "warn"),
    ({"lacking": (replace(copy(1, 1), problems=3),)}, "whole", "warn"),
])  # fmt: skip
def test_each_mistake_is_found_and_no_other(changes, check, state) -> None:
    assert wrong(replace(GOOD, **changes)) == {check: state}


def test_a_share_is_meant_to_be_mounted() -> None:
    assert wrong(replace(GOOD, target=NAS, mounted="/backup")) == {}


def test_before_the_first_copy_there_is_always_room_enough() -> None:
    assert wrong(replace(GOOD, need=None, free=1)) == {}


def test_the_first_copy_on_a_medium_needs_as_much_as_the_volume_holds() -> None:
    elsewhere = [copy(2, 3 * GIB, medium="m2")]
    assert media.need(elsewhere, "disk", "m1", links=True) == Need(3 * GIB, 3 * GIB, full=True)
    assert media.need([], "disk", "m1", links=True) is None


def test_a_medium_that_cannot_link_needs_that_every_night() -> None:
    assert media.need([copy(2, GIB), copy(1, GIB)], "disk", "m1", links=False) == Need(GIB, GIB, full=True)


def test_one_that_links_needs_what_the_volume_grows_by() -> None:
    copies = [copy(3, 100 * MIB), copy(2, 70 * MIB), copy(1, 60 * MIB)]
    assert media.need(copies, "disk", "m1", links=True) == Need(30 * MIB, 30 * MIB, full=False)


def test_one_night_that_brought_much_is_no_usual_one() -> None:
    copies = [copy(5, 950 * MIB), copy(4, 940 * MIB), copy(3, 110 * MIB), copy(2, 105 * MIB), copy(1, 100 * MIB)]
    assert media.need(copies, "disk", "m1", links=True) == Need(10 * MIB, 830 * MIB, full=False)


def test_a_volume_that_shrinks_may_change_all_the_same() -> None:
    copies = [copy(2, 100 * MIB), copy(1, 200 * MIB)]
    assert media.need(copies, "disk", "m1", links=True) == Need(0, 10 * MIB, full=False)


def test_damaged_copies_are_nothing_to_link_from() -> None:
    copies = [copy(2, GIB, damaged=True), copy(1, 2 * GIB, medium="m2")]
    assert media.need(copies, "disk", "m1", links=True) == Need(2 * GIB, 2 * GIB, full=True)


def test_resources_need_room_side_by_side() -> None:
    assert media.together([Need(1, 2, full=False), None, Need(3, 4, full=True)]) == Need(4, 6, full=True)
    assert media.together([None]) is None


@pytest.mark.parametrize(("ahead", "state"), [
    (0.0, "ok"), (LARGEST_DIFFERENCE, "ok"), (-LARGEST_DIFFERENCE, "ok"),
    (LARGEST_DIFFERENCE + 1, "fail"), (-LARGEST_DIFFERENCE - 1, "fail"), (1e9, "fail"),
])  # fmt: skip
def test_clocks_are_within_a_minute(ahead, state) -> None:
    assert [one.state.value for one in clocks.judge_node(ClockFacts("www5", ahead, "nas"))] == [state]
    writable, clock = clocks.judge_share(ShareFacts("nas", ahead))
    assert (writable.state.value, clock.state.value) == ("ok", state)


def test_a_clock_that_nobody_tells_is_left_out() -> None:
    assert clocks.judge_node(ClockFacts("www5", None)) == []


def test_a_share_that_cannot_be_written_to_fails() -> None:
    [found] = clocks.judge_share(ShareFacts("nas", None, "it is mounted read-only"))
    assert (found.check, found.state.value) == ("writable", "fail")


def test_a_clock_that_is_ahead_is_not_behind() -> None:
    [ahead] = clocks.judge_node(ClockFacts("www5", 120.0))
    [behind] = clocks.judge_node(ClockFacts("www5", -120.0))
    assert "ahead of ours" in ahead.because
    assert "behind ours" in behind.because
