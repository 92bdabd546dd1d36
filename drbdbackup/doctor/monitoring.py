"""What the configuration promises to others: metrics and report are written, and messages can be sent.

It sends nothing (`drbdbackup notify test` does), and names no URL: there are secrets in them.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import delivery, documentation, proc
from drbdbackup.config.load import further
from drbdbackup.config.values import Config
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.doctor.starting import ScheduledJob
from drbdbackup.errors import Failure
from drbdbackup.tools.text_file import read

_MONITORS = ("/etc/nagios", "/etc/icinga2", "/etc/zabbix", "/usr/lib/check_mk_agent/local")
_MOST_FILES = 200  # of each
_OLD = timedelta(hours=2)  # `run --if-due` writes them every quarter of an hour


class ExportedFileFacts(Struct, frozen=True):
    """A file that each run writes for others. `problem` is why it cannot be written, "" if it can; `written_at` is None
    if it is not there. `hint` says what to do if its folder is not right.
    """

    check: Check
    file: str
    now: datetime
    hint: str
    problem: str = ""
    written_at: datetime | None = None


def gather(config: Config, now: datetime) -> list[ExportedFileFacts]:
    """Look at the file with the metrics and the page of the report, as far as they are wanted."""
    metrics, report, limit = config.metrics.textfile, config.report.html, config.limits.probe
    exporter = "apt install prometheus-node-exporter, or another `textfile`"
    wanted = (
        ExportedFileFacts(Check("metrics"), metrics, now, exporter),
        ExportedFileFacts(Check("report"), report, now, "Make the folder, or name another file in [report]."),
    )
    return [_look(one, limit) for one in wanted if one.file]


def _look(facts: ExportedFileFacts, deadline: float) -> ExportedFileFacts:
    """Its folder may be on a share that hangs."""
    try:
        problem, at = proc.probe(lambda: _seen(facts.file), deadline, facts.file)
    except Failure as error:
        return replace(facts, problem=error.message)
    return replace(facts, problem=problem, written_at=None if at is None else datetime.fromtimestamp(at, UTC))


def _seen(file: str) -> tuple[str, float | None]:
    """Why it cannot be written, and when it was, in seconds since 1970."""
    folder = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(folder):
        return f"there is no folder {folder}", None
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"nothing can be written to {folder}", None
    with suppress(OSError):
        return "", os.stat(file).st_mtime
    return "", None


def judge(found: Iterable[ExportedFileFacts]) -> Iterator[Finding]:
    """WARN only: a backup does not need them."""
    remedy = "`drbdbackup run --if-due` writes it: does cron, or a timer, start that?"
    for facts in found:
        if facts.problem:
            yield facts.check.warn(f"{facts.file}: {facts.problem}", facts.hint)
        elif facts.written_at is None:
            yield facts.check.warn(f"{facts.file} has not been written yet", remedy)
        elif facts.now - facts.written_at > _OLD:
            yield facts.check.warn(f"{facts.file} was last written at {facts.written_at:%Y-%m-%d %H:%M} UTC", remedy)
        else:
            yield facts.check.ok(f"{facts.file} is written")


class MessageFacts(Struct, frozen=True, kw_only=True):
    """How many URLs there are, whether apprise is, and which files with [notify] others may read.

    `starts` are the timers and cron's files that start the backup, `has_mailer` says whether cron's mail goes anywhere,
    `is_watched` whether a monitoring system looks at this node.
    """

    urls: int
    has_ping: bool
    is_installed: bool
    readable: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    has_mailer: bool = True
    is_watched: bool = False


def gather_messages(config: Config, jobs: Iterable[ScheduledJob]) -> MessageFacts:
    """Look for the library, at the modes of the configuration's files, and for who hears of a failure without it."""
    notify = config.notify
    readable = tuple(file for file in (config.file, *further(config.file)) if _is_read_by_others(file))
    return MessageFacts(
        urls=len(notify.urls), has_ping=bool(notify.ping), is_installed=delivery.is_installed(), readable=readable,
        starts=tuple(job.place for job in jobs), has_mailer=_has_mailer(),
        is_watched=bool(config.metrics.textfile) or any(map(_names_us, _MONITORS)),
    )  # fmt: skip


def _has_mailer() -> bool:
    """Whether there is what Debian's cron gives its mail to. It starts /usr/sbin/sendmail, wherever that leads."""
    return any(os.access(os.path.join(folder, "sendmail"), os.X_OK) for folder in (*os.get_exec_path(), "/usr/sbin"))


def _names_us(folder: str) -> bool:
    """Whether the configuration of a monitoring system, there or one folder below, names this program."""
    for file in sorted(glob.glob(f"{folder}/*") + glob.glob(f"{folder}/*/*"))[:_MOST_FILES]:
        found = read(file)
        if "drbdbackup" in os.path.basename(file) or (found is not None and "drbdbackup" in found.text):
            return True
    return False


def _is_read_by_others(file: str) -> bool:
    with suppress(OSError), open(file, "rb") as opened:
        others = os.fstat(opened.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH)
        return bool(others) and b"notify" in opened.read()
    return False


def judge_messages(facts: MessageFacts) -> Iterator[Finding]:
    """FAIL: no message would be sent. WARN: others can read the secrets, or nobody hears of a backup that fails."""
    check = Check("messages")
    if not facts.urls and not facts.has_ping:
        yield from _without(facts, check)
        return
    if facts.urls and not facts.is_installed:
        yield check.fail("no message can be sent", delivery.MISSING)
    elif facts.readable:
        files = " ".join(facts.readable)
        yield check.warn(f"others can read {files}: the URLs of [notify] are secrets", f"chmod 600 {files}")
    else:
        yield check.ok("they can be sent; `drbdbackup notify test` tries it")


def _without(facts: MessageFacts, check: Check) -> Iterator[Finding]:
    """What there is to say where nothing is sent: cron mails what goes wrong, a timer writes it to the journal."""
    if facts.is_watched or not facts.starts:
        return
    page = documentation.page("docs/monitoring.md")
    hint = f"Set [notify], or have `drbdbackup check` or [metrics] watched ({page})."
    timers = [one for one in facts.starts if one.endswith(".timer")]
    if len(timers) == len(facts.starts):
        yield check.warn(f"{timers[0]} mails nobody: a backup that fails is in the journal only", hint)
    elif not facts.has_mailer:
        yield check.warn("nobody gets a message when a backup fails: cron sends mail, and there is no sendmail", hint)
