"""The caged job of a drill: looks whether restored dumps are whole, starts a database of our own on restored data and
has every table checked; and it sweeps.

The server works in a sandbox: it sees nothing but the restored data, has rights on nothing else, and is gone with the
cage. The system's own server, its data and its configuration are never touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from time import monotonic

from msgspec import Struct

from drbdbackup import open_flags, proc
from drbdbackup.errors import DatabaseFailed, DrillError, Stalled, ToolError
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import Alive, Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.database import dump_files, mariadb_sandbox, prepare
from drbdbackup.pipeline.database.drill_protocol import DumpsChecked, DumpsJob, SweepJob, TablesChecked, TablesJob
from drbdbackup.pipeline.database.dump_files import HOME, VOLUME
from drbdbackup.pipeline.database.mariadb_sandbox import MariadbSandbox
from drbdbackup.pipeline.files.tree import ParentOpener, open_folder, shown_to_others
from drbdbackup.proc import Running
from drbdbackup.targets import removal
from drbdbackup.targets.sidecar import KEPT_PROBLEMS
from drbdbackup.tools import mariadb, mariadbd

_LOG_SIZE = 16 << 20  # bytes that are read of a server's log
_POLL = 0.1  # seconds


def do(job: SweepJob | DumpsJob | TablesJob, channel: Channel) -> Ended | DumpsChecked | TablesChecked:
    """Do what the job says.

    Raises DrbdBackupError if no server can be started here, which says nothing about the data, and Stalled.
    """
    if isinstance(job, SweepJob):
        with channel.beating(), suppress(FileNotFoundError):
            removal.remove_tree(job.to, os.fsencode(HOME))
        return Ended()
    os.umask(0o077)
    home = os.path.join(job.to, HOME)
    with open_folder(os.path.join(home, VOLUME)) as volume:
        return _dumps(volume) if isinstance(job, DumpsJob) else _tables(job, home, volume, channel)


def _dumps(volume: int) -> DumpsChecked:
    found = list(dump_files.looked_at(volume))
    wrong = [Problem(path, why) for path, why in found if why]
    return DumpsChecked(len(found), tuple(dump_files.backups(volume)), tuple(wrong[:KEPT_PROBLEMS]), len(wrong))


def _tables(job: TablesJob, home: str, volume: int, channel: Channel) -> TablesChecked:
    path, is_backup = job.mariadb, job.is_backup
    with _data(volume, path) as data, open_folder(home) as outputs:
        has_plugin = is_backup and prepare.loads_plugin(data)
        problems, tables = _looked_at(data, path, is_backup=is_backup), 0
        if not problems:
            with _furnished(job, home, outputs, data, channel) as place:
                if is_backup:
                    problems = _made_ready(job, place, channel, has_plugin=has_plugin)
                if not problems:
                    tables, problems = _judged(job, place, channel)
    if is_backup:  # there may be several
        problems = [Problem(": ".join(dict.fromkeys((path, one.path))), one.reason) for one in problems]
    return TablesChecked(tables, tuple(problems[:KEPT_PROBLEMS]), len(problems))


def _looked_at(data: int, path: str, *, is_backup: bool) -> list[Problem]:
    """What is wrong with a physical backup before any program sees it; it is harmless then.

    Raises DrillError for a server's own folder that leads out of itself, which is no damage.
    """
    if is_backup:
        _without_links_to_tables(data)
        return prepare.rewrite_settings(data)
    for wrong in prepare.special_files(data):
        hint = "A drill starts a database only from what is in one folder: take `drill.mariadb` out, or move it in."
        raise DrillError(f"{path}/{wrong.path} {wrong.reason}", hint)
    return []


def _without_links_to_tables(data: int) -> None:
    """A backup has the tables themselves beside the names of where its server had them (`DATA DIRECTORY`)."""
    for _, _, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in files:
            if name.endswith(".isl"):
                os.unlink(name, dir_fd=at)


@contextmanager
def _data(volume: int, path: str) -> Iterator[int]:
    """The restored database, open; no symlink on the way is followed. Raises DrbdBackupError."""
    with closing(ParentOpener(volume)) as opener:
        try:
            above, name = opener.parent(os.fsencode(path))
            opened = os.open(name, open_flags.FOLDER, dir_fd=above)
        except OSError as error:
            hint = "`drill.mariadb` is the path of the database's folder from the volume's top; is it excluded?"
            raise DrillError(f"{path} is no folder in the snapshot: {error.strerror}", hint) from None
    try:
        yield opened
    finally:
        os.close(opened)


class _Place(Struct, frozen=True):
    """Where a server works: its sandbox; its own `files`, and what is `outputs` on our side (all three open)."""

    sandbox: MariadbSandbox
    data: int
    files: int
    outputs: int


@contextmanager
def _furnished(job: TablesJob, home: str, outputs: int, data: int, channel: Channel) -> Iterator[_Place]:
    """A folder for the server's files, and a sandbox with that and the data. Raises DrbdBackupError."""
    folder = os.path.join(home, job.server)
    os.makedirs(os.path.join(folder, mariadbd.PLUGINS), 0o700)
    if os.geteuid() != 0 and len(os.fsencode(folder)) + len(mariadbd.SOCKET) >= mariadbd.LONGEST_SOCKET:
        raise DrillError(f"{folder} is too long a name for a socket", "Name a shorter folder with --to.")
    commands = [mariadbd.server("", "", ()), mariadbd.check(""), *([mariadb.prepare("")] if job.is_backup else [])]
    try:
        with open_folder(folder) as files, mariadb_sandbox.entered(
            folder, data, files, commands, caged=job.here.caged, channel=channel
        ) as box:
            yield _Place(box, data, files, outputs)
    except DatabaseFailed as error:
        raise DrillError(error.message, error.hint) from None


def _made_ready(job: TablesJob, place: _Place, channel: Channel, *, has_plugin: bool) -> list[Problem]:
    """What is wrong with a physical backup; nothing if it is one that a server can start from now.

    Raises DrbdBackupError if it cannot be made ready for a reason that says nothing of it.
    """
    try:
        why = prepare.prepare(place.sandbox, place.data, channel, has_plugin=has_plugin)
    except DatabaseFailed as error:
        if errors := mariadbd.corruption(error.message):
            return [Problem(job.mariadb, why) for why in errors]
        hint = error.hint if has_plugin else _OF_A_BACKUP
        raise DrillError(f"{job.mariadb} cannot be made ready here: {error.message}", hint) from None
    return [Problem(job.mariadb, why)] if why else []


def _judged(job: TablesJob, place: _Place, channel: Channel) -> tuple[int, list[Problem]]:
    """How many tables there are, and what is wrong; a server that cannot cope with its data is one problem."""
    box = place.sandbox
    if job.is_backup:
        settings = os.path.join(box.data, mariadb.SETTINGS)
        command = mariadbd.server(box.work, box.data, [mariadbd.SMALL_LOG], settings)
    else:
        command = mariadbd.server(box.work, box.data, job.options)
    running = proc.start(box.inside(command), stdout=_output(job, place, "said"))
    try:
        _await(running, place, channel, job.starting)
        found = _check(job, running, place, channel)
        return len(found), [Problem(table, why) for table, why in found if why]
    except ToolError as error:
        if errors := mariadbd.corruption(_log(place)):
            return 0, [Problem(job.mariadb, why) for why in errors]
        hint = _OF_A_BACKUP if job.is_backup else _HINT
        raise DrillError(f"mariadbd did not start on the restored data: {error.message}", hint) from None
    finally:
        running.end()


_HINT = "Does it need options to read this data? Name them in `drill.options`."
_OF_A_BACKUP = "This says nothing of the backup. Is MariaDB here as new as the server's, and is there memory and room?"


def _await(running: Running, place: _Place, channel: Channel, patience: float) -> None:
    """Until the server takes questions. Raises ToolError if it ends before, Stalled."""
    until = monotonic() + patience
    while not mariadbd.is_ready(_log(place)):
        if running.wait(_POLL) is not None:
            running.await_output()
            raise ToolError(mariadbd.last_errors(_log(place)) or "".join(running.stderr))
        if monotonic() > until:
            raise Stalled(f"mariadbd is not ready after {patience:g} s")
        channel.send_progress(Alive())


def _check(job: TablesJob, running: Running, place: _Place, channel: Channel) -> list[tuple[str, str]]:
    """Every table, and what is wrong with it. Raises ToolError if the server gives up meanwhile, Stalled."""
    output, patience = _output(job, place, "checked"), job.checking
    checking = proc.start(place.sandbox.inside(mariadbd.check(place.sandbox.work)), stdout=output)
    until = monotonic() + patience
    try:
        while (ended := checking.wait(_POLL)) is None:
            if monotonic() > until:
                raise Stalled(f"CHECK TABLE is not done after {patience:g} s")
            channel.send_progress(Alive())
        checking.await_output()
    finally:
        checking.end()
    with open(output, encoding="utf-8", errors="replace") as lines:
        found = list(mariadbd.checked(lines))
    if ended != 0 and (running.wait(_POLL) is not None or not any(why for _, why in found)):
        raise ToolError("".join(checking.stderr).strip() or f"mariadb-check ended with {ended}")
    return found


def _output(job: TablesJob, place: _Place, name: str) -> str:
    """A file of ours, where the server cannot lay a symlink."""
    return f"{shown_to_others(place.outputs)}{job.server}.{name}"


def _log(place: _Place) -> str:
    """What the server has logged; it may have made anything of its own files."""
    with suppress(OSError), open(os.open(mariadbd.LOG, open_flags.READ, dir_fd=place.files), "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(_LOG_SIZE).decode(errors="replace")
    return ""
