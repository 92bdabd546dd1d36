"""When a backup is due: both DST changes, and who has done it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from drbdbackup import schedule
from drbdbackup.errors import ConfigError
from drbdbackup.moment import local_zone

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = "30 4 * * *"


def berlin(text: str, fold: int = 0) -> datetime:
    """The instant of a wall clock's time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def is_due(expression: str, now: datetime, done_at: datetime | None, zone: ZoneInfo) -> datetime | None:
    return schedule.unmet(schedule.last_due(expression, now, zone), done_at)


@pytest.fixture
def machine_in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield local_zone()
    monkeypatch.undo()
    time.tzset()


def dues(expression: str, begin: str, end: str, zone=BERLIN) -> list[str]:
    """All due times in a stretch of days, as the wall clock shows them."""
    now, stop = berlin(begin), berlin(end)
    found = []
    while (now := schedule.next_due(expression, now, zone)) < stop:
        found.append(now.astimezone(BERLIN).strftime("%d %H:%M %z"))
    return found


def test_the_next_due_time_is_after_now_and_in_utc():
    today, tomorrow = (datetime(2026, 11, day, 3, 30, tzinfo=UTC) for day in (23, 24))
    assert schedule.next_due(NIGHTLY, berlin("2026-11-23T04:29:59"), BERLIN) == today
    assert schedule.next_due(NIGHTLY, berlin("2026-11-23T04:30"), BERLIN) == tomorrow
    assert schedule.next_due(NIGHTLY, berlin("2026-11-23T04:30"), BERLIN).tzinfo is UTC


@pytest.mark.parametrize(("now", "due"), [
    ("2026-11-23T04:29:59.9", "2026-11-22T04:30"),
    ("2026-11-23T04:30", "2026-11-23T04:30"),
    ("2026-11-23T04:30:00.000001", "2026-11-23T04:30"),
    ("2026-11-24T04:29", "2026-11-23T04:30"),
])
def test_the_minute_that_is_now_is_the_last_due_time(now, due):
    assert schedule.last_due(NIGHTLY, berlin(now), BERLIN) == berlin(due)


def test_the_spring_gap_makes_it_due_once_when_the_clock_has_jumped():
    assert dues("30 2 * * *", "2026-03-28T12:00", "2026-03-31T00:00") == ["29 03:00 +0200", "30 02:30 +0200"]


def test_the_autumn_fold_makes_it_due_once_the_first_time():
    assert dues("30 2 * * *", "2026-10-24T12:00", "2026-10-27T00:00") == ["25 02:30 +0200", "26 02:30 +0100"]


def test_where_every_hour_is_meant_both_hours_of_the_fold_count():
    assert dues("0 * * * *", "2026-10-25T00:30", "2026-10-25T04:30") == [
        "25 01:00 +0200", "25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100", "25 04:00 +0100"]


def test_in_the_second_hour_of_the_fold_the_first_was_the_last_due():
    second = berlin("2026-10-25T02:45", fold=1)
    assert schedule.last_due("30 2 * * *", second, BERLIN) == berlin("2026-10-25T02:30")
    assert is_due("30 2 * * *", second, berlin("2026-10-25T02:30"), BERLIN) is None


@pytest.mark.parametrize("stretch", [
    ("2026-03-27T12:00", "2026-03-31T00:00"), ("2026-10-23T12:00", "2026-10-27T00:00"),
])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 * * * *", NIGHTLY])
def test_the_zone_of_the_machine_is_as_good_as_a_named_one(machine_in_berlin, stretch, expression):
    assert dues(expression, *stretch, zone=None) == dues(expression, *stretch)


def test_the_zone_without_tz_is_that_of_the_machine():
    """As under cron: no TZ in the environment. The C library must agree."""
    probe = (
        "import time; from datetime import datetime, timezone; from drbdbackup.moment import local_zone\n"
        "for stamp in range(1767225600, 1798761600, 4321):\n"
        "    here = datetime.fromtimestamp(stamp, timezone.utc).astimezone(local_zone())\n"
        "    assert here.utctimetuple()[:6] == time.gmtime(stamp)[:6]\n"
        "    assert here.timetuple()[:6] == time.localtime(stamp)[:6]\n"
    )
    bare = {key: value for key, value in os.environ.items() if key != "TZ"}
    for environment in (bare, {**bare, "TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, {**bare, "TZ": ":Australia/Lord_Howe"}):
        subprocess.run([sys.executable, "-c", probe], check=True, timeout=60, env=environment)


def test_what_no_run_has_done_is_due():
    now, due = berlin("2026-11-23T09:00"), berlin("2026-11-23T04:30")
    assert is_due(NIGHTLY, now, None, BERLIN) == due
    assert is_due(NIGHTLY, now, due - timedelta(seconds=1), BERLIN) == due
    assert is_due(NIGHTLY, now, due - timedelta(days=30), BERLIN) == due


def test_what_a_run_of_any_node_has_done_is_not_due():
    now, due = berlin("2026-11-23T09:00"), berlin("2026-11-23T04:30")
    assert is_due(NIGHTLY, now, due, BERLIN) is None
    assert is_due(NIGHTLY, now, due + timedelta(hours=2), BERLIN) is None
    assert is_due(NIGHTLY, due + timedelta(days=1), due, BERLIN) == due + timedelta(days=1)


@pytest.mark.parametrize("expression", [
    "", "daily", "@daily", "30 4 * *", "30 4 * * * *", "61 4 * * *", "30 24 * * *", "0 0 30 2 *", "0 0 * * mon-",
    "a b c d e",
])
def test_what_is_no_schedule_is_refused_with_an_example(expression):
    with pytest.raises(ConfigError) as caught:
        schedule.check(expression)
    assert f'"{expression}"' in caught.value.message
    assert "30 4 * * *" in caught.value.hint


@pytest.mark.parametrize("expression", [
    NIGHTLY, "*/15 * * * *", "0 1,13 * * 1-5", "0 3 * * sun", "0 0 29 2 *", "0 5 L * *",
])
def test_what_a_crontab_takes_is_taken(expression):
    schedule.check(expression)


def test_a_schedule_that_never_came_has_no_last_due():
    assert schedule.last_due("0 0 30 2 *", berlin("2026-11-23T09:00"), BERLIN) is None


def test_the_schedule_costs_nothing_until_it_is_asked():
    probe = "import sys; import drbdbackup.schedule; print('croniter' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "False"
