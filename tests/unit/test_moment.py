"""What `restore --at` takes for a time."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from drbdbackup.errors import UsageError
from drbdbackup.moment import moment, of_file, since

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 25, 15, 0, 0, tzinfo=BERLIN)  # a Wednesday
END = "23:59:59.999999"


@pytest.mark.parametrize(("text", "wall"), [
    ("now", "2026-11-25 15:00"),
    ("2 hours ago", "2026-11-25 13:00"),
    ("an hour ago", "2026-11-25 14:00"),
    ("90 minutes ago", "2026-11-25 13:30"),
    ("today", f"2026-11-25 {END}"),
    ("Yesterday", f"2026-11-24 {END}"),
    ("1 day ago", f"2026-11-24 {END}"),
    ("3 days ago", f"2026-11-22 {END}"),
    ("a week ago", f"2026-11-18 {END}"),
    ("2 weeks ago", f"2026-11-11 {END}"),
    ("1 month ago", f"2026-10-25 {END}"),
    ("11 months ago", f"2025-12-25 {END}"),
    ("a year ago", f"2025-11-25 {END}"),
    ("monday", f"2026-11-23 {END}"),
    ("last monday", f"2026-11-23 {END}"),
    ("thursday", f"2026-11-19 {END}"),
    ("wednesday", f"2026-11-25 {END}"),
    ("last wednesday", f"2026-11-18 {END}"),
    ("2026-11-20", f"2026-11-20 {END}"),
    ("20261120", f"2026-11-20 {END}"),
    ("2026-11-20T14:30", "2026-11-20 14:30"),
    ("2026-11-20 14:30:15", "2026-11-20 14:30:15"),
    ("2026-11-20T14:30:00Z", "2026-11-20 15:30"),
    ("20261120T143000Z", "2026-11-20 15:30"),
    ("2026-11-20T14:30-05:00", "2026-11-20 20:30"),
    ("2026-11-20 at 4:30", "2026-11-20 04:30"),
    ("Fri 2026-11-20 14:30", "2026-11-20 14:30"),
    ("Fri 2026-11-20", f"2026-11-20 {END}"),
    ("1000 days ago", f"2024-02-29 {END}"),
    ("yesterday 14:30", "2026-11-24 14:30"),
    ("yesterday at 4:30", "2026-11-24 04:30"),
    ("last monday at 04:30:10", "2026-11-23 04:30:10"),
    ("3 days ago 04:30", "2026-11-22 04:30"),
    ("14:00", "2026-11-25 14:00"),
    ("4:30:10 yesterday", "2026-11-24 04:30:10"),
    ("  3   Days  Ago ", f"2026-11-22 {END}"),
])
def test_each_text_means_its_time(text, wall):
    expected = datetime.fromisoformat(wall).replace(tzinfo=BERLIN).astimezone(UTC)
    assert moment(text, NOW, BERLIN) == expected
    assert moment(text, NOW, BERLIN).tzinfo is UTC


@pytest.mark.parametrize("text", [
    "", "tomorrow", "monday week", "3 days", "-3 days ago", "2026-13-01", "2026-02-30", "2026-11-20T25:00", "25:00",
    "last", "yesterday 24:61", "yesterday at", "99999 years ago", "999999 weeks ago", "www5", "\0", "\u0663 days ago x",
    "Sat 2026-11-20 14:30", "fri 2026-13-20", "fri yesterday",
    "2026-11-20; rm", "last last monday", "16:00", "2 hours ago 04:30",
])
def test_what_is_no_time_is_refused_with_what_is_allowed(text):
    with pytest.raises(UsageError) as caught:
        moment(text, NOW, BERLIN)
    assert caught.value.status == 2
    assert repr(text) in caught.value.message
    assert "yesterday" in caught.value.hint


def test_a_time_that_is_yet_to_come_today_is_no_riddle():
    with pytest.raises(UsageError) as caught:
        moment("16:00", NOW, BERLIN)
    assert '"yesterday 16:00"' in caught.value.hint


@pytest.mark.parametrize(("text", "wall"), [
    ("2026-11-20", "2026-11-20 00:00"), ("yesterday", "2026-11-24 00:00"), ("2 hours ago", "2026-11-25 13:00"),
    ("yesterday 14:30", "2026-11-24 14:30"), ("14:00", "2026-11-25 14:00"),
])  # fmt: skip
def test_since_a_day_means_from_its_beginning(text, wall):
    assert since(text, NOW, BERLIN) == datetime.fromisoformat(wall).replace(tzinfo=BERLIN)


def test_a_month_without_that_day_means_its_last():
    march = datetime(2026, 3, 31, 12, tzinfo=BERLIN)
    assert moment("1 month ago", march, BERLIN).astimezone(BERLIN).date().isoformat() == "2026-02-28"
    leap = datetime(2028, 2, 29, 12, tzinfo=BERLIN)
    assert moment("1 year ago", leap, BERLIN).astimezone(BERLIN).date().isoformat() == "2027-02-28"


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_ends_where_the_next_begins_whatever_the_clock_did(day):
    following = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=BERLIN)
    assert moment(day, NOW, BERLIN) + timedelta(microseconds=1) == following


def test_a_time_that_comes_twice_means_the_second():
    assert moment("2026-10-25T02:30", NOW, BERLIN) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_yesterday_is_that_of_the_wall_clock():
    just_after_midnight = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)
    assert moment("yesterday", just_after_midnight, BERLIN) == datetime(2026, 11, 24, 22, 59, 59, 999999, tzinfo=UTC)


def test_hours_are_hours_even_where_the_clock_jumps():
    after_the_gap = datetime(2026, 3, 29, 4, 0, tzinfo=BERLIN)
    assert moment("2 hours ago", after_the_gap, BERLIN) == datetime(2026, 3, 29, 0, 0, tzinfo=UTC)


def test_it_imports_the_standard_library_only():
    probe = "import sys; before = set(sys.modules); import drbdbackup.moment; print(*set(sys.modules) - before)"
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert {name.split(".")[0] for name in said.stdout.split()} - set(sys.stdlib_module_names) <= {"drbdbackup"}


@pytest.mark.parametrize(("ns", "at"), [
    (0, datetime(1970, 1, 1, tzinfo=UTC)), (-1_000_000_000, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (1 << 63, datetime(2262, 4, 11, 23, 47, 16, 854775, tzinfo=UTC)),
    (253_402_214_400 * 10**9, None), (-62_135_596_800 * 10**9, None), (10**9 << 63, None), (-(10**9) << 63, None),
])  # fmt: skip
def test_a_file_may_claim_any_time(ns: int, at: datetime | None) -> None:
    assert of_file(ns) == at
