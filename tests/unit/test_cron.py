"""cron/drbdbackup is a file that cron takes, in step with the default schedule."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from croniter import croniter

from drbdbackup import schedule
from drbdbackup.config.values import Config

FILE = Path(__file__).parents[2] / "cron" / "drbdbackup"
TEXT = FILE.read_text()
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
SETTINGS = dict(line.split("=", 1) for line in LINES if re.match(r"[A-Z]+=", line))
JOBS = [line.split(None, 6) for line in LINES if not re.match(r"[A-Z]+=", line)]
DEFAULT = Config.__dataclass_fields__["schedule"].default


def times(job: list[str]) -> str:
    return " ".join(job[:5])


def test_its_name_is_one_that_cron_reads():
    assert re.fullmatch(r"[A-Za-z0-9_-]+", FILE.name)


def test_it_ends_with_a_newline_and_is_plain():
    assert TEXT.endswith("\n")
    assert TEXT.isascii()
    assert "\r" not in TEXT
    assert FILE.stat().st_mode & 0o133 == 0


def test_every_line_is_a_setting_or_a_job_of_root():
    assert set(SETTINGS) == {"SHELL", "PATH", "MAILTO"}
    assert len(JOBS) == 2
    for job in JOBS:
        assert croniter.is_valid(times(job))
        assert job[5] == "root"
        assert "%" not in job[6]  # cron would make it a newline


def test_the_program_is_found_where_the_installation_puts_it():
    assert SETTINGS["SHELL"] == "/bin/sh"
    assert SETTINGS["MAILTO"] == "root"
    assert {"/usr/local/bin", "/usr/sbin", "/sbin"} <= set(SETTINGS["PATH"].split(":"))
    assert [job[6] for job in JOBS] == ["drbdbackup run", "drbdbackup run --if-due"]


def test_the_nightly_line_is_the_default_schedule():
    assert times(JOBS[0]) == DEFAULT == "30 4 * * *"


def test_the_two_lines_never_start_in_the_same_minute():
    assert not croniter.match(times(JOBS[1]), datetime(2026, 11, 23, 4, 30, tzinfo=UTC))
    minutes = {int(minute) for minute in JOBS[1][0].split(",")}
    assert int(JOBS[0][0]) not in minutes


@pytest.mark.parametrize("hour", range(24))
def test_a_missed_run_is_made_up_within_a_quarter_of_an_hour(hour):
    asked = datetime(2026, 11, 23, hour, tzinfo=UTC)
    for _ in range(4):
        following = schedule.next_due(times(JOBS[1]), asked, UTC)
        assert following - asked <= timedelta(minutes=15)
        asked = following
