"""Next and last agree, whatever the zone does with its clock."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from drbdbackup import schedule

ZONES = st.sampled_from([
    "UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu",
]).map(ZoneInfo)
SECOND = timedelta(seconds=1)


CHANGES = [datetime(2026, *day, tzinfo=UTC) for day in [(3, 8), (3, 29), (4, 5), (9, 6), (10, 4), (10, 25), (11, 1)]]


def near_changes() -> st.SearchStrategy[datetime]:
    """Instants of 2026, half of them within two days of a change of clock in one of the zones."""
    instants = st.just(datetime(2026, 1, 1, tzinfo=UTC))
    close = st.builds(_after, st.sampled_from(CHANGES), st.integers(-2 * 86400, 2 * 86400))
    return close | st.builds(_after, instants, st.integers(0, 365 * 86400))


def _after(instant: datetime, seconds: int) -> datetime:
    return instant + timedelta(seconds=seconds)


DAILY = st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23))
OTHERS = st.sampled_from(["*/15 * * * *", "0 * * * *", "15 */2 * * *", "*/30 2 * * *", "0 2 * * 0", "30 1,13 * * 1-5"])


@given(DAILY | OTHERS, near_changes(), ZONES)
def test_now_lies_between_the_last_and_the_next(expression, now, zone):
    last, following = schedule.last_due(expression, now, zone), schedule.next_due(expression, now, zone)
    assert last <= now < following
    assert schedule.last_due(expression, following, zone) == following
    assert schedule.last_due(expression, following - SECOND, zone) == last
    assert schedule.next_due(expression, last, zone) == following


@given(DAILY, near_changes(), ZONES)
def test_a_nightly_backup_is_due_once_a_day(expression, now, zone):
    days = []
    for _ in range(4):
        now = schedule.next_due(expression, now, zone)
        days.append(now.astimezone(zone).date())
    assert [later - earlier for earlier, later in itertools.pairwise(days)] == [timedelta(days=1)] * 3


@given(DAILY | OTHERS, near_changes(), ZONES, st.integers(0, 3 * 86400))
def test_a_run_now_leaves_nothing_due_until_the_next_time(expression, now, zone, later):
    following = schedule.next_due(expression, now, zone)
    asked = now + timedelta(seconds=later)
    last = schedule.last_due(expression, asked, zone)
    assert (schedule.unmet(last, now) is None) == (asked < following)
