"""Which copies stay, and the reason that an admin reads."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from drbdbackup.config.values import Retention
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.generation import Generation
from drbdbackup.retention import FROZEN, SAFETY_KEPT, plan, safety

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
ONE = Retention(hourly=0, daily=0, weekly=0, monthly=0, yearly=0, minimum=1)
DAILY3 = Retention(daily=3, weekly=0, monthly=0, minimum=1)


def copy(sequence: int, started_at: datetime, node: str = "www4", **more) -> Copy:
    return Copy(
        snapshot=snapshot_name(started_at, node), resource="raid", sequence=sequence, node=node, target="nas",
        kind="nas", medium="m", location="nas:/backup", holder="", path="/backup", started_at=started_at,
        finished_at=started_at + timedelta(minutes=5), files=1, bytes=1, **more,
    )


def nights(count: int, **more) -> list[Copy]:
    """One copy a night at 04:30 in Berlin, the last one this morning; the sequence begins at 1."""
    first = NOW - timedelta(days=count - 1, hours=2, minutes=30)
    return [copy(number + 1, first + timedelta(days=number), **more) for number in range(count)]


def kept(copies, policy) -> dict[int, str]:
    """Sequence to reason of what stays."""
    return {one.copy.sequence: one.reason for one in plan(copies, policy, NOW, BERLIN) if one.keep}


def dropped(copies, policy) -> dict[int, str]:
    return {one.copy.sequence: one.reason for one in plan(copies, policy, NOW, BERLIN) if not one.keep}


def test_each_copy_is_judged_once_newest_first():
    judged = plan(nights(5), DAILY3, NOW, BERLIN)
    assert [(one.copy.sequence, one.keep, one.reason) for one in judged] == [
        (5, True, "newest"), (4, True, "daily 2026-11-22"), (3, True, "daily 2026-11-21"),
        (2, False, "no rule keeps it"), (1, False, "no rule keeps it"),
    ]


def test_nothing_is_judged_where_nothing_is():
    assert plan([], DAILY3, NOW, BERLIN) == ()


def test_the_default_keeps_days_weeks_and_months():
    stay = kept(nights(400), Retention())
    rules = Counter(reason.split(" ")[0] for reason in stay.values())
    assert rules == {"newest": 1, "daily": 13, "weekly": 5, "monthly": 11}  # three of the eight weeks are days too
    assert {"daily 2026-11-10", "weekly 2026-W41", "monthly 2026-10", "monthly 2025-12"} <= set(stay.values())


def test_of_two_copies_of_a_day_the_later_one_stays():
    copies = [copy(1, NOW - timedelta(hours=27)), copy(2, NOW - timedelta(hours=25)), copy(3, NOW - timedelta(hours=1))]
    assert kept(copies, DAILY3) == {3: "newest", 2: "daily 2026-11-22"}


def test_a_day_is_that_of_the_wall_clock():
    before, after = datetime(2026, 11, 20, 22, 59, tzinfo=UTC), datetime(2026, 11, 20, 23, 1, tzinfo=UTC)
    assert kept([copy(1, before), copy(2, after), copy(3, NOW)], DAILY3) == {
        3: "newest", 2: "daily 2026-11-21", 1: "daily 2026-11-20"}


def test_days_without_a_copy_do_not_count():
    copies = [copy(number, NOW - timedelta(days=100 - 10 * number)) for number in range(1, 10)]
    assert set(kept(copies, DAILY3)) == {9, 8, 7}


def test_the_two_hours_of_the_autumn_change_are_two():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    copies = [copy(1, first), copy(2, first + timedelta(hours=1)), copy(3, NOW)]
    stay = kept(copies, Retention(hourly=3, daily=0, weekly=0, monthly=0, minimum=1))
    assert stay == {3: "newest", 2: "hourly 2026-10-25 02:00 +0100", 1: "hourly 2026-10-25 02:00 +0200"}


def test_weeks_begin_on_monday_also_across_the_year():
    copies = [copy(1, datetime(2025, 12, 28, 12, tzinfo=UTC)), copy(2, datetime(2025, 12, 29, 12, tzinfo=UTC)),
              copy(3, datetime(2026, 1, 4, 12, tzinfo=UTC)), copy(4, NOW)]
    stay = kept(copies, Retention(daily=0, weekly=3, monthly=0, minimum=1))
    assert stay == {4: "newest", 3: "weekly 2026-W01", 1: "weekly 2025-W52"}


def test_the_floor_holds_where_no_rule_keeps_anything():
    assert kept(nights(6), Retention(daily=0, weekly=0, monthly=0, minimum=3)) == {
        6: "newest", 5: "minimum of 3", 4: "minimum of 3"}


def test_the_last_verified_one_stays():
    copies = nights(6)
    copies[1] = copy(2, copies[1].started_at, verified_at=NOW)
    copies[0] = copy(1, copies[0].started_at, verified_at=NOW)
    assert kept(copies, ONE) == {6: "newest", 2: "last verified"}


def test_a_damaged_one_fills_no_day_and_goes_where_enough_good_ones_are():
    copies = nights(5)
    copies[3] = copy(4, copies[3].started_at, damaged_at=NOW, verified_at=NOW)
    assert kept(copies, DAILY3) == {5: "newest", 3: "daily 2026-11-21", 2: "daily 2026-11-20"}
    assert dropped(copies, DAILY3)[4] == "damaged"


def test_a_damaged_one_stays_while_there_are_too_few_good_ones():
    copies = nights(3)
    copies[0] = copy(1, copies[0].started_at, damaged_at=NOW)
    policy = Retention(daily=0, weekly=0, monthly=0, minimum=3)
    assert kept(copies, policy) == {3: "newest", 2: "minimum of 3", 1: "damaged, but fewer than 3 good ones"}


def test_a_damaged_one_goes_when_just_enough_good_ones_are_there():
    copies = nights(3)
    copies[0] = copy(1, copies[0].started_at, damaged_at=NOW)
    assert dropped(copies, Retention(daily=0, weekly=0, monthly=0, minimum=2)) == {1: "damaged"}


def test_the_newest_stays_even_damaged_and_the_newest_good_one_too():
    copies = nights(4)
    copies[3] = copy(4, copies[3].started_at, damaged_at=NOW)
    assert kept(copies, ONE) == {4: "newest", 3: "minimum of 1"}


def test_a_copy_from_the_future_stays_and_takes_no_place():
    copies = [*nights(5), copy(3, NOW + timedelta(days=400), node="www5")]
    assert kept(copies, DAILY3)[3] in ("from the future", "daily 2026-11-21")
    assert [judged.reason for judged in plan(copies, DAILY3, NOW, BERLIN) if judged.copy.node == "www5"] == [
        "from the future"]
    assert sum(judged.keep for judged in plan(copies, DAILY3, NOW, BERLIN)) == 4


def test_the_order_is_that_of_the_sequence_where_a_clock_is_behind():
    copies = [copy(1, NOW - timedelta(hours=1)), copy(2, NOW - timedelta(hours=3), node="www5")]
    assert kept(copies, ONE) == {2: "newest"}


def test_a_whole_copy_of_a_day_stays_before_a_later_one_where_files_are_missing():
    copies = [copy(1, NOW - timedelta(hours=27)), copy(2, NOW - timedelta(hours=25), problems=7), copy(3, NOW)]
    assert kept(copies, DAILY3) == {3: "newest", 1: "daily 2026-11-22"}
    assert dropped(copies, DAILY3) == {2: "files are missing, and no rule keeps it"}


def test_a_day_without_a_whole_copy_keeps_its_newest():
    assert kept(nights(5, problems=7), DAILY3) == {
        5: "newest", 4: "daily 2026-11-22, no whole one there", 3: "daily 2026-11-21, no whole one there"}


def test_many_copies_where_files_are_missing_do_not_push_out_the_last_whole_ones():
    copies = [*nights(9)[:3], *nights(9, problems=1)[3:]]
    policy = Retention(daily=0, weekly=0, monthly=0, minimum=3)
    assert kept(copies, policy) == {9: "newest", 3: "minimum of 3", 2: "minimum of 3", 1: "minimum of 3"}


def test_where_whole_copies_are_too_few_for_the_floor_others_fill_it():
    copies = [*nights(9)[:1], *nights(9, problems=1)[1:]]
    policy = Retention(daily=0, weekly=0, monthly=0, minimum=3)
    assert kept(copies, policy) == {9: "newest", 8: "minimum of 3", 1: "minimum of 3"}


def test_the_last_verified_whole_copy_stays_before_a_later_one_where_files_are_missing():
    copies = nights(6)
    copies[0] = copy(1, copies[0].started_at, verified_at=NOW)
    copies[1] = copy(2, copies[1].started_at, verified_at=NOW, problems=1)
    assert kept(copies, ONE) == {6: "newest", 1: "last verified"}


def torn(count: int) -> list[Copy]:
    """A copy a night of both nodes, which wrote apart from the first one on; www5's are the newer of each night."""
    one, other = Generation("00000000000000B0", "00000000000000A0"), Generation("00000000000000C0", "00000000000000A0")
    ours = [replace(made, sequence=2 * made.sequence - 1, generation=one) for made in nights(count)]
    theirs = [replace(made, sequence=2 * made.sequence, generation=other) for made in nights(count, node="www5")]
    return sorted([*ours, *theirs], key=lambda made: made.sequence)


def resolved(count: int, since: int) -> list[Copy]:
    """The same, and www4 has survived; the last `since` nights are its alone."""
    shared = Generation("00000000000000B0", "", ("00000000000000A0",))
    copies = [made for made in torn(count) if made.node == "www4" or made.sequence <= 2 * (count - since)]
    return [replace(made, generation=shared) if made.sequence > 2 * (count - since) else made for made in copies]


def judged(copies: list[Copy], policy: Retention) -> dict[int, str]:
    return {one.copy.sequence: one.reason for one in plan(copies, policy, NOW, BERLIN, lineages(copies)) if one.keep}


def test_nothing_goes_while_a_split_brain_stands():
    copies = torn(5)
    assert set(judged(copies, ONE).values()) == {FROZEN}
    assert len(judged(copies, ONE)) == len(copies)


def test_a_discarded_lineage_takes_no_place_from_the_living_one():
    assert judged(resolved(5, since=1), DAILY3) == {
        9: "newest", 8: "daily 2026-11-22, of a discarded lineage", 7: "daily 2026-11-22",
        6: "daily 2026-11-21, of a discarded lineage", 5: "daily 2026-11-21",
    }


def test_a_whole_discarded_copy_does_not_stand_in_for_one_that_lacks_files():
    copies = [replace(made, problems=1) if made.node == "www4" else made for made in resolved(5, since=1)]
    assert {5, 7, 9} <= judged(copies, DAILY3).keys()


def test_a_discarded_lineage_ages_out():
    assert {one % 2 for one in judged(resolved(9, since=3), DAILY3)} == {1}


def test_a_discarded_copy_counts_for_the_minimum_only_where_the_living_are_too_few():
    assert set(judged(resolved(5, since=1), replace(ONE, minimum=5))) == {1, 3, 5, 7, 9}
    assert len(judged(resolved(5, since=1), replace(ONE, minimum=6))) == 6


def test_what_stays_after_one_pruning_stays_after_the_next():
    copies = resolved(9, since=2)
    stays = judged(copies, replace(DAILY3, weekly=2))
    again = judged([made for made in copies if made.sequence in stays], replace(DAILY3, weekly=2))
    assert again.keys() == stays.keys()


def outlived(kept_at: datetime, *backups: Copy, copies: list[Copy] | None = None) -> bool:
    one = copy(7, kept_at, purpose="safety")
    (judged,) = safety([one], backups, NOW, lineages(copies or []))
    return not judged.keep


def test_a_safety_copy_goes_when_its_time_is_over_and_a_whole_backup_came_after_it():
    long_ago = NOW - SAFETY_KEPT
    later = copy(8, NOW - timedelta(days=1))
    assert outlived(long_ago, later)
    assert not outlived(long_ago + timedelta(seconds=1), later)
    assert not outlived(long_ago)
    assert not outlived(long_ago, copy(6, long_ago - timedelta(days=1)))
    assert not outlived(long_ago, replace(later, problems=1), replace(later, damaged_at=NOW))


def test_a_safety_copy_stays_while_a_split_brain_stands():
    later = copy(8, NOW - timedelta(days=1))
    assert not outlived(NOW - SAFETY_KEPT, later, copies=torn(3))


def test_a_pinned_copy_stays_whatever_the_rules_say_damaged_or_not():
    copies = nights(6)
    copies[0] = replace(copies[0], pinned_at=NOW)
    copies[1] = replace(copies[1], pinned_at=NOW, damaged_at=NOW)
    assert kept(copies, ONE) == {6: "newest", 2: "pinned", 1: "pinned"}


def test_a_pinned_safety_copy_stays():
    later = copy(8, NOW - timedelta(days=1))
    one = copy(7, NOW - 2 * SAFETY_KEPT, purpose="safety")
    assert [judged.keep for judged in safety([one, replace(one, pinned_at=NOW)], [later], NOW)] == [False, True]


def test_the_last_ones_stay_however_many_a_day_has():
    copies = [copy(number, NOW - timedelta(hours=10 - number)) for number in range(1, 10)]
    assert kept(copies, replace(ONE, last=3)) == {9: "newest", 8: "last 3", 7: "last 3"}


def test_a_damaged_or_discarded_copy_is_none_of_the_last_ones():
    copies = nights(5)
    copies[3] = replace(copies[3], damaged_at=NOW)
    assert kept(copies, replace(ONE, last=3)).keys() == {5, 3, 2}
    assert judged(resolved(5, since=1), replace(ONE, last=6)).keys() == {9, 7, 5, 3, 1}
