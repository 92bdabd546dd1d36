"""How far each job of this node is: a small file for each in `state_dir`, so that `watch` sees it whoever started it.

A file is replaced by renaming, once a second at most, and never synced: it is worth nothing after a crash. Nobody
decides anything by it. It is removed at the end; one of a process that is gone means nothing, and the next job that
writes one removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import plain_file
from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config
from drbdbackup.errors import Failure
from drbdbackup.model.document_reader import fitting
from drbdbackup.pipeline.progress import Progress, Watcher

_PAUSE = 1.0  # seconds between two writings
_LARGEST = 1 << 20  # bytes


class TargetProgress(Struct, frozen=True):
    """How far one target is; `outcome` once it has ended."""

    name: str
    entries: int = 0
    bytes: int = 0
    outcome: str = ""


class JobProgress(Struct, frozen=True, kw_only=True):
    """A job under way on this node: `what` is its command. `at` is when this was written, in seconds of the clock.

    The totals are None until the walk has ended. `reads` says that it reads from its targets, as a restore does.
    """

    what: str
    resource: str
    pid: int
    started_at: datetime
    at: float
    reads: bool = False
    entries: int | None = None
    bytes: int | None = None
    targets: tuple[TargetProgress, ...] = ()


class WrittenProgress:
    """A watcher that writes down what another one is shown."""

    def __init__(self, folder: str, what: str, watcher: Watcher) -> None:
        """Writes nothing before something begins."""
        self._file = os.path.join(folder, _own_name())
        self._watcher = watcher
        self._next = 0.0
        self._known = JobProgress(what=what, resource="", pid=os.getpid(), started_at=datetime.now(UTC), at=0.0)
        self._targets: dict[str, TargetProgress] = {}

    def begun(self, resource: str, targets: tuple[str, ...], *, reads: bool = False) -> None:
        """It is of this resource now."""
        self._known = replace(
            self._known, resource=resource, reads=reads, started_at=datetime.now(UTC), entries=None, bytes=None
        )
        self._targets = {name: TargetProgress(name) for name in targets}
        self._write(is_due=True)
        self._watcher.begun(resource, targets, reads=reads)

    def walked(self, entries: int, total_bytes: int) -> None:
        """The totals."""
        self._known = replace(self._known, entries=entries, bytes=total_bytes)
        self._write(is_due=True)
        self._watcher.walked(entries, total_bytes)

    def progress(self, target: str, progress: Progress) -> None:
        """A target has come so far."""
        self._targets[target] = TargetProgress(target, progress.entries, progress.done_bytes)
        self._write(is_due=time.monotonic() >= self._next)
        self._watcher.progress(target, progress)

    def ended(self, target: str, outcome: str, message: str) -> None:
        """A target has ended."""
        self._targets[target] = replace(self._targets.get(target, TargetProgress(target)), outcome=outcome)
        self._write(is_due=True)
        self._watcher.ended(target, outcome, message)

    def gone(self) -> None:
        """There is nothing to see any more."""
        with suppress(OSError):
            os.unlink(self._file)

    def _write(self, *, is_due: bool) -> None:
        """A disk that is full must not end a backup for this."""
        if not is_due:
            return
        self._next = time.monotonic() + _PAUSE
        known = replace(self._known, at=time.time(), targets=tuple(self._targets.values()))
        draft = f"{self._file}.new"
        with suppress(OSError):
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as file:
                file.write(msgspec.json.encode(known))
            os.rename(draft, self._file)


@contextmanager
def written_progress(config: Config, what: str, watcher: Watcher) -> Iterator[Watcher]:
    """The watcher for a job of this process; what it is shown others can see meanwhile."""
    folder = _folder(config)
    with suppress(Failure, OSError):  # the job itself says what is wrong with state_dir
        private_folder(folder)
        _sweep(folder)
    written = WrittenProgress(folder, what, watcher)
    try:
        yield written
    finally:
        written.gone()


def under_way(config: Config) -> tuple[JobProgress, ...]:
    """The jobs of this node that can be watched, the oldest first."""
    folder = _folder(config)
    found = []
    for name in filter(_lives, _names(folder)):
        with suppress(OSError, Failure):
            document = plain_file.json_object(plain_file.content(os.path.join(folder, name), _LARGEST))
            found.append(fitting(JobProgress, document or {}))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: (one.started_at, one.pid)))


def _folder(config: Config) -> str:
    return os.path.join(config.state_dir, "progress")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _own_name() -> str:
    pid = os.getpid()
    return f"{pid}-{_started(pid)}"


def _started(pid: int | str) -> str:
    """When a process began, in ticks since the machine did; "" if there is none. Source: proc(5), /proc/PID/stat."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _lives(name: str) -> bool:
    """Whether it is the file of a process that is there: an id comes again."""
    pid, _, started = name.partition("-")
    return pid.isascii() and pid.isdigit() and bool(started) and started == _started(pid)


def _sweep(folder: str) -> None:
    for name in os.listdir(folder):
        if not _lives(name.removesuffix(".new")) or name.removesuffix(".new") == _own_name():
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))
