"""The caged job that has a database write its consistent copy into the volume, before the walk.

It appears whole or not at all, and the last good one stays until then. It must never fill the volume: services that
write there would stop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from drbdbackup import open_flags, proc
from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import DatabaseFailed, DestinationFull, Failure, TargetFull
from drbdbackup.model.amount import size
from drbdbackup.pipeline.cage.long_program import work
from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.database import dump_files
from drbdbackup.pipeline.database.dump_protocol import DumpJob
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.volume import destination
from drbdbackup.pipeline.volume.destination_protocol import OverVolume
from drbdbackup.targets.removal import remove_tree
from drbdbackup.tools import mariadb, mount

RESERVE = 0.01  # of the volume, which stays free
_HINT = "Does the server run, and may `defaults_file` (or root, without one) read everything?"


def do(job: DumpJob, channel: Channel) -> Ended:
    """Dump the job's `database`. Raises DatabaseFailed, TargetFull, Interrupted if the volume is not there any more."""
    database, place = job.database, OverVolume(job.source, job.mounted)
    os.umask(0o077)
    with destination.opened(place, caged=job.here.caged) as volume, _folder(volume, database) as folder:
        _clear(folder, lambda name: name.endswith(dump_files.PARTIAL))
        if database.method == "dump":
            name = _dump(channel, database, folder)
        else:
            name = _back_up(dump_files.BACKUP + job.snapshot, channel, database, folder)
        os.fsync(folder)
        _clear(folder, lambda other: other != name)
    return Ended()


def _dump(channel: Channel, database: DatabaseConfig, folder: int) -> str:
    partial = dump_files.DUMP + dump_files.PARTIAL
    with _undone(folder, partial):
        _check_room(folder, dump_files.DUMP)
        _write(mariadb.dump(database, tree.shown_to_others(folder) + partial), channel, database, folder)
        file = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not mariadb.is_whole(file):
                raise DatabaseFailed(dump_files.NO_END, "See the log of the server, and whether the disk is full.")
            with channel.beating():
                os.fsync(file)
        finally:
            os.close(file)
        os.rename(partial, dump_files.DUMP, src_dir_fd=folder, dst_dir_fd=folder)
    return dump_files.DUMP


def _back_up(name: str, channel: Channel, database: DatabaseConfig, folder: int) -> str:
    """A folder cannot take another's place: each has a name of its own, and the older ones go then."""
    with _undone(folder, name + dump_files.PARTIAL):
        at = tree.shown_to_others(folder) + name + dump_files.PARTIAL
        _write(mariadb.backup(database, at), channel, database, folder)
        with channel.beating():
            mount.sync(at)
        os.rename(name + dump_files.PARTIAL, name, src_dir_fd=folder, dst_dir_fd=folder)
    return name


def _write(command: proc.Command, channel: Channel, database: DatabaseConfig, folder: int) -> None:
    """Let it work as long as it moves, has time and leaves room."""
    until = time.monotonic() + database.timeout

    def check_room() -> None:
        if _free(folder) < _reserve(folder):
            raise _no_room(f"{size(_free(folder))} were left when it was stopped", folder)

    def check() -> None:
        check_room()
        if time.monotonic() > until:
            raise DatabaseFailed(f"no end within {database.timeout:g} s", "Its `timeout` may be too short.")

    try:
        work(command, channel, _HINT, check=check)
    except DatabaseFailed:
        check_room()
        raise


@contextmanager
def _folder(volume: int, database: DatabaseConfig) -> Iterator[int]:
    """The folder of its copies, open: ours alone, and never reached through a symlink."""
    folder = os.dup(volume)
    try:
        for name in (dump_files.FOLDER, database.name):
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            above, folder = folder, os.open(name, open_flags.FOLDER, dir_fd=folder)
            os.close(above)
            if os.fstat(folder).st_uid != os.geteuid():
                raise DatabaseFailed(f"the folder {name} on the volume belongs to somebody else", "Move it away.")
            os.fchmod(folder, 0o700)
        yield folder
    except (NotADirectoryError, FileNotFoundError) as error:
        there = f"{dump_files.place(database.name)} on the volume"
        raise DatabaseFailed(f"{there}: {error.strerror}", "Move it away.") from None
    finally:
        os.close(folder)
        for empty in (dump_files.place(database.name), dump_files.FOLDER):
            with suppress(OSError):
                os.rmdir(empty, dir_fd=volume)


@contextmanager
def _undone(folder: int, partial: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(Failure, OSError):
            remove_tree(folder, os.fsencode(partial))
        raise


def _clear(folder: int, goes: Callable[[str], bool]) -> None:
    for name in os.listdir(folder):
        if goes(name):
            remove_tree(folder, os.fsencode(name))


def _check_room(folder: int, before: str) -> None:
    """The new one comes beside the last, and will be about as large."""
    with suppress(FileNotFoundError):
        last = os.stat(before, dir_fd=folder, follow_symlinks=False).st_size
        if _free(folder) - last < _reserve(folder):
            raise _no_room(f"the last dump has {size(last)}, and {size(_free(folder))} are free", folder)


def _no_room(why: str, folder: int) -> TargetFull:
    message = f"the volume has no room for it: {why}; {size(_reserve(folder))} must stay free"
    return DestinationFull(message, "Make room on the volume. The last good dump is still there.")


def _free(folder: int) -> int:
    seen = os.fstatvfs(folder)
    return seen.f_bavail * seen.f_frsize


def _reserve(folder: int) -> int:
    seen = os.fstatvfs(folder)
    return int(seen.f_blocks * seen.f_frsize * RESERVE)
