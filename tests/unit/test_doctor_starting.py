"""What is said of cron and timers."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.doctor import starting
from drbdbackup.doctor.starting import (
    CrontabLine,
    ScheduledJob,
    StartedRun,
    StartFacts,
    UnusedFile,
    parse_crontab,
    starts_run,
    why_not_read,
)
from drbdbackup.tools.text_file import TextFile

OURS = (Path(__file__).parents[2] / "cron/drbdbackup").read_text()
NIGHT = ScheduledJob("/etc/cron.d/drbdbackup", "30 4 * * *", ())
MISSED = ScheduledJob("/etc/cron.d/drbdbackup", "7,22,37,52 * * * *", ("--if-due",))
GOOD = StartFacts("30 4 * * *", (NIGHT, MISSED))


def wrong(facts: StartFacts) -> dict[str, str]:
    return {one.check: one.state.value for one in starting.judge(facts) if one.state.value != "ok"}


def test_our_own_file_is_understood() -> None:
    night, missed = parse_crontab(OURS, with_user=True)
    assert (night.schedule, night.run) == ("30 4 * * *", StartedRun("drbdbackup", ()))
    assert (missed.schedule, missed.run.words) == ("7,22,37,52 * * * *", ("--if-due",))
    assert "/usr/local/bin" in night.path.split(":")


def test_a_crontab_of_a_user_has_no_user_in_its_lines() -> None:
    text = "PATH=/opt/bin\n@daily /usr/local/bin/drbdbackup run\n"
    text += "5 4 * * * drbdbackup run --target nas >/dev/null 2>&1\n"
    assert parse_crontab(text, with_user=False) == (
        CrontabLine("@daily", StartedRun("/usr/local/bin/drbdbackup", ()), "/opt/bin"),
        CrontabLine("5 4 * * *", StartedRun("drbdbackup", ("--target", "nas")), "/opt/bin"),
    )


@pytest.mark.parametrize(("command", "words"), [
    ("drbdbackup run", ()), ("/opt/drbdbackup/bin/drbdbackup --config /x run --if-due", ("--if-due",)),
    ("flock -n /run/x drbdbackup run", ()), ("test -x /x && drbdbackup run; echo", ()), ("sh -c 'drbdbackup run'", ()),
    ("drbdbackup --config=/x run >> /var/log/x 2>&1", ()),
])  # fmt: skip
def test_what_starts_a_run(command, words) -> None:
    started = starts_run(command)
    assert started is not None
    assert started.words == words


@pytest.mark.parametrize("command", [
    "drbdbackup status", "drbdbackup verify --sample 5%", "drbdbackup", "drbdbackup --config run", "run drbdbackup",
    "echo drbdbackup; run", "/opt/notdrbdbackup run", "",
])  # fmt: skip
def test_what_does_not(command) -> None:
    assert starts_run(command) is None


@pytest.mark.parametrize(("path", "file", "read"), [
    ("/etc/cron.d/drbdbackup", TextFile("x\n", 0o100644), True),
    ("/etc/cron.d/drbdbackup.cron", TextFile("x\n", 0o100644), False),
    ("/etc/cron.d/drbdbackup", TextFile("x\n", 0o100664), False),
    ("/etc/cron.d/drbdbackup", TextFile("x\n", 0o100644, owner=1000), False),
    ("/etc/cron.d/drbdbackup", TextFile("x", 0o100644), False),
    ("/etc/crontab", TextFile("x\n", 0o100644), True),
    ("/var/spool/cron/crontabs/backup.user", TextFile("x\n", 0o100600, owner=1000), True),
])  # fmt: skip
def test_what_cron_reads(path, file, read) -> None:
    assert (why_not_read(path, file) == "") is read


def test_a_node_as_it_should_be() -> None:
    assert wrong(GOOD) == {}


@pytest.mark.parametrize(("jobs", "found"), [
    ((), {"schedule": "fail"}),
    ((MISSED,), {"schedule": "fail"}),
    ((NIGHT,), {"missed runs": "warn"}),
    ((NIGHT, NIGHT, MISSED), {"schedule": "warn"}),
    ((NIGHT, ScheduledJob("drbdbackup.timer", "", ()), MISSED), {"schedule": "warn"}),
    ((replace(NIGHT, found=False), MISSED), {"schedule": "fail"}),
    ((replace(NIGHT, schedule="30 3 * * *"), MISSED), {"schedule": "warn"}),
    ((ScheduledJob("drbdbackup.timer", "", ()), MISSED), {}),
    ((NIGHT, replace(NIGHT, words=("--json",)), MISSED), {"schedule": "warn"}),
    ((NIGHT, replace(NIGHT, words=("--target", "nas")), MISSED), {"schedule": "warn"}),
    ((replace(NIGHT, words=("--target=a",)), replace(NIGHT, words=("--target", "b")), MISSED), {}),
    ((replace(NIGHT, words=("--resource", "a")), replace(NIGHT, words=("--resource", "b")), MISSED), {}),
])  # fmt: skip
def test_each_mistake_is_found_and_no_other(jobs, found) -> None:
    assert wrong(replace(GOOD, jobs=jobs)) == found


def test_a_file_that_cron_passes_over_is_named() -> None:
    unused = UnusedFile("/etc/cron.d/drbdbackup.cron", "cron passes over a name with a dot")
    facts = StartFacts("30 4 * * *", (), (unused,))
    assert "drbdbackup.cron: cron passes over" in starting.judge(facts)[0].because


def test_blanks_in_the_schedule_make_no_difference() -> None:
    assert wrong(replace(GOOD, schedule="30  4 * *  *")) == {}
