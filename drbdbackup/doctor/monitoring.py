"""What the configuration promises to monitoring: the metrics are written, and messages can be sent.

It sends nothing (`drbdbackup notify test` does), and names no URL: there are secrets in them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct

from drbdbackup import delivery
from drbdbackup.config.load import further
from drbdbackup.config.values import Config
from drbdbackup.doctor.finding import Check, Finding

_OLD = timedelta(hours=2)  # `run --if-due` writes them every quarter of an hour


class MetricsFacts(Struct, frozen=True):
    """`problem` is why the file cannot be written, "" if it can; `written_at` is None if it is not there."""

    file: str
    now: datetime
    problem: str = ""
    written_at: datetime | None = None


def gather(config: Config, now: datetime) -> MetricsFacts:
    """Look at the file with the metrics."""
    file = config.metrics.textfile
    folder = os.path.dirname(file)
    if not os.path.isdir(folder):
        return MetricsFacts(file, now, f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return MetricsFacts(file, now, f"nothing can be written to {folder}")
    try:
        at = datetime.fromtimestamp(os.stat(file).st_mtime, now.tzinfo)
    except OSError:
        return MetricsFacts(file, now)
    return MetricsFacts(file, now, written_at=at)


def judge(facts: MetricsFacts) -> Iterator[Finding]:
    """WARN only: a backup does not need it."""
    check = Check("metrics")
    remedy = "`drbdbackup run --if-due` writes it: does cron, or a timer, start that?"
    if not facts.file:
        return
    if facts.problem:
        hint = "apt install prometheus-node-exporter, or another `textfile`"
        yield check.warn(f"{facts.file}: {facts.problem}", hint)
    elif facts.written_at is None:
        yield check.warn(f"{facts.file} has not been written yet", remedy)
    elif facts.now - facts.written_at > _OLD:
        yield check.warn(f"{facts.file} was last written at {facts.written_at:%Y-%m-%d %H:%M} UTC", remedy)
    else:
        yield check.ok(f"{facts.file} is written")


class MessageFacts(Struct, frozen=True):
    """How many URLs there are, whether apprise is, and which files with [notify] others may read."""

    urls: int
    has_ping: bool
    is_installed: bool
    readable: tuple[str, ...]


def gather_messages(config: Config) -> MessageFacts:
    """Look for the library and at the modes of the configuration's files."""
    notify = config.notify
    readable = tuple(file for file in (config.file, *further(config.file)) if _is_read_by_others(file))
    return MessageFacts(len(notify.urls), bool(notify.ping), delivery.is_installed(), readable)


def _is_read_by_others(file: str) -> bool:
    with suppress(OSError), open(file, "rb") as opened:
        others = os.fstat(opened.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH)
        return bool(others) and b"notify" in opened.read()
    return False


def judge_messages(facts: MessageFacts) -> Iterator[Finding]:
    """FAIL: no message would be sent. WARN: others can read the secrets."""
    check = Check("messages")
    if not facts.urls and not facts.has_ping:
        return
    if facts.urls and not facts.is_installed:
        yield check.fail("no message can be sent", delivery.MISSING)
    elif facts.readable:
        files = " ".join(facts.readable)
        yield check.warn(f"others can read {files}: the URLs of [notify] are secrets", f"chmod 600 {files}")
    else:
        yield check.ok("they can be sent; `drbdbackup notify test` tries it")
