"""A run's end in the log of the system: to journald with fields, else to syslog; nothing where neither is there.

Where there is no mailer, cron's mail is thrown away. It must never hold up a run, nor fail one: a log that does not
take an entry at once goes without it. Protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL; syslog(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.backup import Outcome
from drbdbackup.report import runs, text

if TYPE_CHECKING:  # a night on which nothing was replicated does not pay for it
    from drbdbackup.commands.replicate import Replicated
    from drbdbackup.commands.run import Alarm, Attempt

RUN_ENDED = "6b1f0d0c5a3e4f0f9a53c1f0a8b6d2e1"  # MESSAGE_ID, for journalctl and its catalog
PAIR_CRITICAL = "c2f7a94be8d14b5d8f6e07d3a1b94c50"

_JOURNAL, _SYSLOG = "/run/systemd/journal/socket", "/dev/log"
_CRITICAL, _ERROR, _WARNING, _INFO = 2, 3, 4, 6
_DAEMON = 3 << 3
_LONGEST = 4000  # letters: what is longer than a datagram is refused whole
_PRIORITIES = {
    Outcome.COMPLETE: _INFO, Outcome.STOOD_DOWN: _INFO, Outcome.PARTIAL: _WARNING, Outcome.HELD: _WARNING,
}  # fmt: skip


class LogEntry(Struct, frozen=True):
    """One line with its priority (as in syslog) and fields; those that are empty are left out."""

    message: str
    priority: int
    fields: Mapping[str, str]


def tell(attempts: Sequence[Attempt], alarms: Sequence[Alarm], replicas: Sequence[Replicated]) -> None:
    """Log what is news: how each attempt and each replication ended, and what is critical about a pair."""
    for entry in (*_of_attempts(attempts), *_of_replicas(replicas), *_of_alarms(alarms)):
        send(entry)


def send(entry: LogEntry) -> None:
    """Hand it to journald, else to syslog. Never raises, never waits."""
    if not _sent(_JOURNAL, _for_journal(entry)):
        _sent(_SYSLOG, _for_syslog(entry))


def _of_attempts(attempts: Sequence[Attempt]) -> Iterator[LogEntry]:
    for attempt in attempts:
        if attempt.is_reported:
            continue
        wrong = list(runs.errors(attempt))
        lines = [runs.outcome_line(attempt), *(one.message for one in wrong)]
        snapshot = attempt.result.snapshot if attempt.result else ""
        yield _entry(
            lines, _PRIORITIES.get(attempt.outcome, _ERROR), wrong, MESSAGE_ID=RUN_ENDED, RESOURCE=attempt.resource,
            RUN=snapshot, OUTCOME=attempt.outcome.value,
        )  # fmt: skip


def _of_replicas(replicas: Sequence[Replicated]) -> Iterator[LogEntry]:
    for one in replicas:
        if one.is_known:
            continue
        lines = [*runs.replicas([one], dry_run=False), *([one.error.message] if one.error else [])]
        outcome, priority = (Outcome.FAILED, _ERROR) if one.error else (Outcome.COMPLETE, _INFO)
        wrong = [one.error] if one.error else []
        yield _entry(
            lines, priority, wrong, MESSAGE_ID=RUN_ENDED, RESOURCE=one.resource, RUN=one.snapshot,
            OUTCOME=outcome.value,
        )  # fmt: skip


def _of_alarms(alarms: Sequence[Alarm]) -> Iterator[LogEntry]:
    for alarm in alarms:
        yield _entry(
            [alarm.error.message], _CRITICAL, [alarm.error], MESSAGE_ID=PAIR_CRITICAL, RESOURCE=alarm.resource,
            OUTCOME="critical",
        )  # fmt: skip


def _entry(lines: Sequence[str], priority: int, wrong: Sequence[DrbdBackupError], **fields: str) -> LogEntry:
    """The entry with these `fields` by their names in the journal, and the code of the first error."""
    message = "; ".join(text.printable(one) for one in lines)[:_LONGEST]
    every = {**fields, "ERROR_CODE": wrong[0].code if wrong else ""}
    return LogEntry(message, priority, {name: value for name, value in every.items() if value})


def _for_journal(entry: LogEntry) -> bytes:
    fields = {
        "MESSAGE": entry.message, "PRIORITY": str(entry.priority), "SYSLOG_IDENTIFIER": "drbdbackup",
        "SYSLOG_PID": str(os.getpid()), **entry.fields,
    }  # fmt: skip
    return "".join(f"{name}={text.printable(value)}\n" for name, value in fields.items()).encode()


def _for_syslog(entry: LogEntry) -> bytes:
    at = time.strftime("%b %e %H:%M:%S")
    return f"<{_DAEMON | entry.priority}>{at} drbdbackup[{os.getpid()}]: {entry.message}".encode()


def _sent(path: str, datagram: bytes) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as log:
        log.setblocking(False)
        log.sendto(datagram, path)
        return True
    return False
