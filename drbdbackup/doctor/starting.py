"""What starts the nightly backup: cron or a systemd timer, once, at the time that the configuration means.

It only reads what cron and systemd read, and never starts or enables anything.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

from drbdbackup import shipped
from drbdbackup.doctor import systemd
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import UsageError
from drbdbackup.tools.text_file import TextFile, read

_SYSTEM, _FOLDER, _SPOOL = "/etc/crontab", "/etc/cron.d", "/var/spool/cron/crontabs"
_PERIODIC = tuple(f"/etc/cron.{often}" for often in ("hourly", "daily", "weekly", "monthly"))
_UNITS = tuple(f"{top}/systemd/system" for top in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
_CRONS_NAME = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)
_NO_SYSTEMD = "systemd does not run here"
_SETTING = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(.*?)\s*\Z")


class ScheduledJob(Struct, frozen=True):
    """One line of cron's, or a timer or a script of run-parts (then `schedule` is ""), and the words behind its `run`.

    `place` is where it stands; `found` says whether cron will find the program in the PATH that it has there.
    `calendar` are the times of a timer, () where something else adds to them.
    """

    place: str
    schedule: str
    words: tuple[str, ...]
    found: bool = True
    calendar: tuple[str, ...] = ()

    @property
    def only_if_due(self) -> bool:
        """Whether it makes up for what was missed, and is not the nightly backup."""
        return "--if-due" in self.words

    @property
    def scope(self) -> tuple[str, ...]:
        """The resources and targets that it names, () for all of them."""
        split = " ".join(self.words).replace("=", " ").split()
        return tuple(sorted(word for before, word in pairwise(split) if before in ("--resource", "--target")))


class UnusedFile(Struct, frozen=True):
    """A file that looks as if it started a backup, and why it does not."""

    path: str
    why: str


class StartFacts(Struct, frozen=True):
    """What starts it, what only looks as if it did, and the `schedule` of the configuration."""

    schedule: str
    jobs: tuple[ScheduledJob, ...]
    unused: tuple[UnusedFile, ...] = ()


class StartedRun(Struct, frozen=True):
    """A `drbdbackup run` in a command line: the program, and the words behind `run`."""

    program: str
    words: tuple[str, ...]


class CrontabLine(Struct, frozen=True):
    """A line of a crontab that starts a run, with the PATH that holds there."""

    schedule: str
    run: StartedRun
    path: str


def parse_crontab(text: str, *, with_user: bool) -> tuple[CrontabLine, ...]:
    """The lines that start a run (crontab(5)); `with_user` for those of the system, which name one."""
    path, found = "/usr/bin:/bin", []
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        if setting := _SETTING.match(line):
            path = setting[2].strip("\"'") if setting[1] == "PATH" else path
            continue
        times = 1 if line.lstrip().startswith("@") else 5
        fields = line.split(None, times + with_user)
        run = starts_run(fields[-1]) if len(fields) > times + with_user else None
        if run is not None:
            found.append(CrontabLine(" ".join(fields[:times]), run, path))
    return tuple(found)


def starts_run(command: str) -> StartedRun | None:
    """The run that a command line starts, None for none."""
    for part in re.split(r"[;&|()]", command):
        words = [word.strip("\"'") for word in re.split(r"\s[0-9]*[<>]", part)[0].split()]
        at = next((at for at, word in enumerate(words) if os.path.basename(word) == "drbdbackup"), None)
        if at is None:
            continue
        behind = words[at + 1 :]
        while behind and behind[0].startswith("-"):
            behind = behind[2 if behind[0] == "--config" else 1 :]
        if behind[:1] == ["run"]:
            return StartedRun(words[at], tuple(behind[1:]))
    return None


def gather(schedule: str) -> StartFacts:
    """Read what cron and systemd read."""
    jobs: list[ScheduledJob] = []
    unused: list[UnusedFile] = []
    for path, with_user in _crontabs():
        file = read(path)
        lines = parse_crontab(file.text, with_user=with_user) if file else ()
        if file is None or not lines:
            continue
        if why := why_not_read(path, file):
            unused.append(UnusedFile(path, why))
        else:
            jobs += [ScheduledJob(path, line.schedule, line.run.words, _is_found(line)) for line in lines]
    for path, script in _scripts():
        runs = map(starts_run, (line for line in script.text.split("\n") if not line.lstrip().startswith("#")))
        jobs += [ScheduledJob(path, "", run.words) for run in runs if run is not None]
    for timer, words in _timers():
        if not systemd.is_running():
            unused.append(UnusedFile(timer, _NO_SYSTEMD))
        elif systemd.is_enabled(timer) in systemd.STARTS:
            jobs.append(ScheduledJob(timer, "", words, calendar=_calendar(timer)))
        else:
            unused.append(UnusedFile(timer, "it is not enabled"))
    return StartFacts(schedule, tuple(jobs), tuple(unused))


def _crontabs() -> Iterator[tuple[str, bool]]:
    yield _SYSTEM, True
    for folder, with_user in ((_FOLDER, True), (_SPOOL, False)):
        yield from ((path, with_user) for path in _listed(folder))


def _scripts() -> Iterator[tuple[str, TextFile]]:
    """Those that cron starts by way of run-parts(8), which passes over the same names as cron does."""
    for path in (path for folder in _PERIODIC for path in _listed(folder)):
        file = read(path)
        if file is not None and file.mode & stat.S_IXUSR and _CRONS_NAME.match(os.path.basename(path)):
            yield path, file


def _listed(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def why_not_read(path: str, file: TextFile) -> str:
    """Why cron passes over a file that it could read (cron(8), Debian's), "" if it does not."""
    if os.path.dirname(path) == _FOLDER and not _CRONS_NAME.match(os.path.basename(path)):
        return "cron ignores a file with a dot or the like in its name"
    if os.path.dirname(path) == _SPOOL:
        return ""
    if file.owner or stat.S_IMODE(file.mode) & 0o022:
        return "cron ignores a file that does not belong to root, or that others can write"
    return "" if file.text.endswith("\n") else "cron ignores a file without a newline at its end"


def _is_found(line: CrontabLine) -> bool:
    program = line.run.program
    folders = [""] if "/" in program else line.path.split(":")
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders)


def _timers() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The timers that start a run, by name: of several with one name the first folder's counts (systemd.unit(5))."""
    seen = set()
    for folder in _UNITS:
        for path in _listed(folder):
            name = os.path.basename(path)
            if name.endswith(".timer") and name not in seen:
                seen.add(name)
                run = _started_by(path)
                if run is not None:
                    yield name, run


def _calendar(timer: str) -> tuple[str, ...]:
    """The times of a timer that nothing else adds to (systemd.timer(5), systemd.unit(5))."""
    if any(os.path.exists(os.path.join(folder, f"{timer}.d")) for folder in _UNITS):
        return ()
    file = next(filter(None, (read(os.path.join(folder, timer)) for folder in _UNITS)), None)
    return tuple(re.findall(r"^OnCalendar=(.*?)\s*$", file.text if file else "", re.MULTILINE))


def _started_by(timer: str) -> tuple[str, ...] | None:
    file = read(timer)
    unit = re.search(r"^Unit=(\S+)", file.text if file else "", re.MULTILINE)
    name = unit[1] if unit else os.path.basename(timer).removesuffix(".timer") + ".service"
    service = next(filter(None, (read(os.path.join(folder, os.path.basename(name))) for folder in _UNITS)), None)
    for line in service.text.split("\n") if service else []:
        run = starts_run(line.partition("=")[2].lstrip("-@:+!")) if line.startswith("ExecStart=") else None
        if run is not None:
            return run.words
    return None


def judge(facts: StartFacts) -> list[Finding]:
    """Once for the night, and something that makes up for a night that was missed."""
    return [_night(facts), *_missed(facts)]


_INSTALL = "drbdbackup install"


def _night(facts: StartFacts) -> Finding:
    check, jobs = Check("schedule"), [job for job in facts.jobs if not job.only_if_due]
    if not jobs:
        why = "; ".join(f"{one.path}: {one.why}" for one in facts.unused)
        because = "nothing starts the nightly backup" + (f" ({why})" if why else "")
        cron = " --cron" if any(one.why == _NO_SYSTEMD for one in facts.unused) else ""
        return check.fail(because, f"On every node: {_INSTALL}{cron}")
    lost = [job for job in jobs if not job.found]
    if lost:
        because = f"{lost[0].place} starts it, and cron does not find that program in its PATH"
        return check.fail(because, "Is there a link to it in /usr/local/bin? Does the file set PATH?")
    twice = [job for job in jobs if sum(_is_the_same(job, other) for other in jobs) > 1]
    if twice:
        because = f"it is started {len(twice)} times, by {' and '.join(dict.fromkeys(job.place for job in twice))}"
        return check.warn(because, "Leave one of them, and remove the others: `drbdbackup install --timer`, or --cron.")
    late = [job for job in jobs if job.schedule and job.schedule != " ".join(facts.schedule.split())]
    if late:
        because = f'{late[0].place} has "{late[0].schedule}", and schedule is "{facts.schedule}"'
        return check.warn(because, "Give both the same time: `schedule` decides whether a backup is overdue.")
    late = [job for job in jobs if job.calendar and not _is_at(facts.schedule, job.calendar)]
    if late:
        because = f'{late[0].place} has "{late[0].calendar[0]}", and schedule is "{facts.schedule}"'
        return check.warn(because, f"`schedule` decides whether a backup is overdue. On every node: {_INSTALL}")
    return check.ok(f"{jobs[0].place} starts it" + (f' at "{jobs[0].schedule}"' if jobs[0].schedule else ""))


def _is_at(schedule: str, calendar: tuple[str, ...]) -> bool:
    """Whether a timer's times are those of the schedule, as `install` writes them."""
    try:
        wanted = shipped.calendar(schedule)
    except UsageError:
        return True  # cron and systemd have other words for it, so nobody can tell
    short = {one.removesuffix(":00") for one in wanted} | {one.removeprefix("*-*-* ") for one in wanted}
    short |= {one.removesuffix(":00").removeprefix("*-*-* ") for one in wanted}
    return set(calendar) == set(wanted) or (len(calendar) == 1 == len(wanted) and calendar[0] in short)


def _is_the_same(one: ScheduledJob, other: ScheduledJob) -> bool:
    """Whether two of them back up the same; those that name different resources or targets do not."""
    return one.scope == other.scope or not (one.scope and other.scope)


def _missed(facts: StartFacts) -> Iterator[Finding]:
    check = Check("missed runs")
    if any(job.only_if_due for job in facts.jobs):
        yield check.ok("a backup that was missed is made later")
    elif facts.jobs:
        yield check.warn("a backup that was missed is not made later", f"On every node: {_INSTALL}")
