"""The inside of a cage: reads one job of the kind in argv from stdin, does it, writes events to stdout as JSON lines.

This is what touches the source and the targets. It must end at once on SIGTERM (undoing its mounts on the way) and
must print nothing but events.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar, get_type_hints, overload

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.errors import (
    NO_RIGHT,
    DrbdBackupError,
    Failure,
    Interrupted,
    OutOfMemory,
    StateError,
    TargetFull,
    ToolError,
    UnexpectedError,
    hint_for,
    of_module,
)
from drbdbackup.pipeline.cage import protocol
from drbdbackup.pipeline.cage.protocol import SUPERVISOR, Alive, Answer, CageJob, Failed, JobEvent, NodeFacts
from drbdbackup.pipeline.cage.registry import module_of
from drbdbackup.tools import ionice, mount, mounts

PROGRESS_EVERY = 0.25  # seconds
BEAT = 10.0  # seconds
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_NEARLY_NOTHING = 1 << 16  # bytes
MEMORY = 4 << 30  # bytes of its own; it takes 60 MiB, and 140 bytes for each name in the largest folder
_TOO_MUCH = OutOfMemory(
    f"more memory is needed than the {MEMORY >> 30} GiB that a job may have, or than there is",
    "Does a folder of the volume or the target have millions of names? See `dmesg`.",
)
AnswerT = TypeVar("AnswerT", bound=Answer)
OtherT = TypeVar("OtherT", bound=Answer)


class Channel:
    """The line to the supervisor. A supervisor that is gone ends the job: nobody would publish it."""

    def __init__(self, commands: int, events: int) -> None:
        """Read commands from the descriptor `commands`, write events to `events`."""
        self._commands = commands
        self._events = events
        self._buffer = b""
        self._writing = threading.Lock()
        self._last_progress = 0.0

    def send(self, event: JobEvent) -> None:
        """Send an event."""
        self._write(event)

    def send_progress(self, event: Struct) -> None:
        """Send how far it is, but not too often."""
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY:
            self._last_progress = now
            self._write(event)

    def _write(self, message: Struct) -> None:
        data = protocol.encode(message).encode() + b"\n"
        with self._writing:
            while data:
                data = data[os.write(self._events, data) :]

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say, now and then, that we are at work, as long as we are: removing a million files says nothing else.

        What hangs uses no processor time, and then nothing is said. Not for work that polls.
        """
        over = threading.Event()

        def beat() -> None:
            used = -1.0
            while not over.wait(BEAT):
                before, used = used, sum(os.times()[:4])
                if used > before:
                    self.send(Alive())

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    @overload
    def receive(self, kind: type[AnswerT]) -> AnswerT: ...

    @overload
    def receive(self, kind: type[AnswerT], other: type[OtherT]) -> AnswerT | OtherT: ...

    def receive(self, kind: type[AnswerT], other: type[OtherT] | None = None) -> AnswerT | OtherT:
        """The supervisor's answer, which has to be of one of these kinds.

        Raises Interrupted if the supervisor is gone, ProtocolError for what is no such answer.
        """
        answer: AnswerT | OtherT = self._hear(kind if other is None else kind | other)
        return answer

    def receive_job(self, kind: Any) -> CageJob:
        """The job that it is to do, of this kind or one of this union; raises as `receive` does."""
        job: CageJob = self._hear(kind)
        return job

    def _hear(self, kind: Any) -> Any:
        while b"\n" not in self._buffer:
            piece = os.read(self._commands, 65536)
            if not piece:
                raise Interrupted("the supervisor is gone")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return protocol.decode(line, kind, SUPERVISOR)


def main() -> NoReturn:
    """Do the job that stdin names; exit status 0 if it was done, 1 if an error event was sent."""
    events = os.dup(1)
    os.dup2(2, 1)
    channel = Channel(0, events)
    for signum in _SIGNALS:
        signal.signal(signum, _stop)
    own_folder = ""
    proc.limit_memory(MEMORY)
    try:
        module = importlib.import_module(module_of(sys.argv[1]))
        job = channel.receive_job(get_type_hints(module.do)["job"])  # each do() says what it takes
        own_folder = job.own_folder
        if job.is_idle_work or job.is_background_work:
            _stand_back(job.here, is_idle=job.is_idle_work)
        if job.here.caged:
            drop_other_volumes(job.here, job.paths)
        channel.send(module.do(job, channel))
    except DrbdBackupError as error:
        channel.send(Failed.of(error))
        os._exit(1)
    except OSError as error:
        channel.send(Failed.of(_of_system(error, own_folder)))
        os._exit(1)
    except MemoryError:
        channel.send(Failed.of(_TOO_MUCH))
        os._exit(1)
    except Exception as error:  # noqa: BLE001  the cage's wall: a bug must reach the supervisor as an event
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        failed = of_module(error) or UnexpectedError(message, "This is a bug: please report it.")
        channel.send(Failed.of(failed))
        os._exit(1)
    os._exit(0)  # all is undone, and Python would take its time to clear up


def _stand_back(here: NodeFacts, *, is_idle: bool) -> None:
    """Let everything else have the processor and the disks first, as far as the configuration wants that.

    The priority of I/O follows that of the processor, and the idle class of the scheduler brings that of I/O with it,
    but where a class of I/O was set. Source: ioprio_set(2), and block/ioprio.c.
    """
    if here.ionice == ionice.IDLE:
        with suppress(ToolError):  # no priority is worth a backup
            ionice.become_idle()
    os.nice(here.nice)
    if here.nice and is_idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _stop(signum: int, _frame: object) -> NoReturn:
    """The first signal ends the work in good order; further ones must not disturb the undoing."""
    for further in _SIGNALS:
        signal.signal(further, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def _of_system(error: OSError, own_folder: str) -> DrbdBackupError:
    if error.errno == errno.ENOMEM:
        return _TOO_MUCH
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    if error.errno in (28, 122):
        if own_folder and _is_full(own_folder):
            message = "no space is left in the state folder, where a run keeps its lists"
            return StateError(message, "Free some space on the disk that holds state_dir.")
        return TargetFull(f"{where}no space is left", "Remove something there, or let it keep fewer copies.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Failure(f"{where}{error.strerror}", NO_RIGHT)
    return Failure(f"{where}{error.strerror}", hint_for(error.errno) or "Check the disk or share: see `dmesg`.")


def _is_full(folder: str) -> bool:
    """Whether nearly nothing can be written there; a medium's lack of space says nothing of our own disk."""
    try:
        seen = os.statvfs(folder)
    except OSError:
        return False
    return seen.f_bavail * seen.f_frsize < _NEARLY_NOTHING


def drop_other_volumes(here: NodeFacts, paths: Iterable[str]) -> None:
    """Drop, in this cage only, every replicated volume that holds none of the `paths` that its job works on.

    Where `/` is private, a cage's copy of a mount keeps its device busy after the host's unmount: the node could not
    become Secondary for as long as a verify takes.
    """
    wanted = [_real(path) for path in paths]
    table = mounts.table()
    for seen in reversed(table):
        is_volume = seen.point in here.volumes or seen.source.startswith("/dev/drbd")
        if is_volume and not any(path == seen.point or path.startswith(f"{seen.point}/") for path in wanted):
            with suppress(ToolError):
                mount.detach_lazily(seen.point)


def _real(path: str) -> str:
    """The path without symlinks; as it is where somebody exchanges one meanwhile: the job itself will not follow it."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
