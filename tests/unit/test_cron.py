"""cron/drbdbackup is a file that cron takes, in step with the default schedule."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from croniter import croniter
from msgspec.structs import fields

from drbdbackup import schedule
from drbdbackup.config.values import Config

FILE = Path(__file__).parents[2] / "cron" / "drbdbackup"
TEXT = FILE.read_text()
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
SETTINGS = dict(line.split("=", 1) for line in LINES if re.match(r"[A-Z]+=", line))
JOBS = [line.split(None, 6) for line in LINES if not re.match(r"[A-Z]+=", line)]
[DEFAULT] = [field.default for field in fields(Config) if field.name == "schedule"]


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
    assert [job[6].split("|| ")[-1] for job in JOBS] == ["drbdbackup run", "drbdbackup run --if-due"]


@pytest.mark.parametrize(("programs", "started"), [
    ({}, False), ({"drbdbackup": 0}, True), ({"drbdbackup": 0, "systemctl": 3}, True),
    ({"drbdbackup": 0, "systemctl": 0}, False), ({"systemctl": 3}, False),
])  # fmt: skip
@pytest.mark.parametrize(("job", "words", "timer"), [
    (JOBS[0], "run", "drbdbackup.timer"), (JOBS[1], "run --if-due", "drbdbackup-due.timer"),
])  # fmt: skip
def test_a_line_starts_what_is_installed_and_what_no_timer_starts(
    job: list[str], words: str, timer: str, programs: dict[str, int], started: bool, tmp_path: Path
) -> None:
    for name, status in programs.items():
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/{name}.told"\nexit {status}\n')
        (tmp_path / name).chmod(0o755)
    ended = subprocess.run(["/bin/sh", "-c", job[6]], env={"PATH": str(tmp_path)}, capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert (tmp_path / "drbdbackup.told").exists() is started
    if started:
        assert (tmp_path / "drbdbackup.told").read_text() == f"{words}\n"
    if "systemctl" in programs and "drbdbackup" in programs:
        assert (tmp_path / "systemctl.told").read_text() == f"-q is-active {timer}\n"


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
