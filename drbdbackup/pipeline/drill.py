"""The caged job of a drill: looks whether restored dumps are whole, starts a database of our own on restored data and
has every table checked; and it sweeps.

The server sees nothing but the restored data, has rights on nothing else, and is gone with the cage. The system's own
server, its data and its configuration are never touched.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import DatabaseFailed, DrbdBackupError, Stalled, ToolError
from drbdbackup.pipeline import dumps, load
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.trees import FOLDER, Descent, open_folder, shown_to_others
from drbdbackup.proc import Running
from drbdbackup.targets import removal
from drbdbackup.tools import mariadb, mariadbd, mount
from drbdbackup.tools.mariadbd import Account

HOME, VOLUME = "drbdbackup-drill", "volume"
KEPT_PROBLEMS = 1000

_DATA = "data"
_ACCOUNTS = ("mysql", "nobody")
_PLACES = ("/mnt", "/media", "/tmp")  # noqa: S108  what lies there is out of sight in this cage, nothing is written there
_POLL = 0.1


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`step` "sweep": remove what a drill left in the folder `to`; "dumps": look at the dumps that were restored there;
    "tables": check the database at `mariadb`, which may be a physical backup (`is_backup`) that has to be made ready.

    The answer of the last two has how many there are, and the `problems` as (path or table, why); "dumps" says, too,
    where physical `backups` lie. Raises
    DrbdBackupError if no server can be had here, which says nothing of the data, and Stalled.
    """
    if job["step"] == "sweep":
        with channel.beating(), suppress(FileNotFoundError):
            removal.remove_tree(job["to"], os.fsencode(HOME))
        return {}
    os.umask(0o077)
    home = os.path.join(job["to"], HOME)
    with open_folder(os.path.join(home, VOLUME)) as volume:
        found, problems = _dumps(volume) if job["step"] == "dumps" else _tables(job, home, volume, channel)
    return {**found, "problems": problems[:KEPT_PROBLEMS], "problem_count": len(problems)}


def _dumps(volume: int) -> tuple[dict[str, Any], list[list[str]]]:
    found = list(dumps.looked_at(volume))
    wrong = [[path, why] for path, why in found if why]
    return {"dumps": len(found), "backups": list(dumps.backups(volume))}, wrong


def _tables(
    job: dict[str, Any], home: str, volume: int, channel: Channel
) -> tuple[dict[str, Any], list[list[str]]]:
    path, is_backup = job["mariadb"], job["is_backup"]
    with _data(volume, path) as data:
        account = _account(job)
        if account is not None:
            with channel.beating():
                _give(data, account)
        folder, place = _furnished(job, home, data, account)
        problems, tables = _made_ready(job, folder, place, account, channel) if is_backup else [], 0
        if not problems:
            tables, problems = _judged(job, folder, place, account, channel)
    if is_backup:  # there may be several
        problems = [[": ".join(dict.fromkeys((path, table))), why] for table, why in problems]
    return {"tables": tables}, problems


@contextmanager
def _data(volume: int, path: str) -> Iterator[int]:
    """The restored database, open; no symlink on the way is followed. Raises DrbdBackupError."""
    with closing(Descent(volume)) as descent:
        try:
            above, name = descent.parent(os.fsencode(path))
            opened = os.open(name, FOLDER, dir_fd=above)
        except OSError as error:
            hint = "`drill.mariadb` is the path of the database's folder from the volume's top; is it excluded?"
            raise DrbdBackupError(f"{path} is no folder in the snapshot: {error.strerror}", hint) from None
    try:
        yield opened
    finally:
        os.close(opened)


def _account(job: dict[str, Any]) -> Account | None:
    """Whom the server runs as; None where we are nobody special. Raises DrbdBackupError for root without a cage."""
    if os.geteuid() != 0:
        return None
    if not job["caged"]:
        raise DrbdBackupError("a database is only started in a cage, and none can be had here", "Drill on a real node.")
    for name in _ACCOUNTS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise DrbdBackupError(f"there is no account to run a database as: none of {', '.join(_ACCOUNTS)}")


def _give(data: int, account: Account) -> None:
    """The restored files are made the server's own; they were compared before."""
    for _, folders, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, account.uid, account.gid, dir_fd=at, follow_symlinks=False)
    os.chown(data, account.uid, account.gid)


def _furnished(job: dict[str, Any], home: str, data: int, account: Account | None) -> tuple[str, str]:
    """A folder for the server's files, and where it finds its data.

    In a cage both are shown at a place that any account can reach. Raises DrbdBackupError.
    """
    folder = os.path.join(home, job["server"])
    os.mkdir(folder, 0o700)
    if account is None:
        if len(os.fsencode(folder)) + len(mariadbd.SOCKET) >= mariadbd.LONGEST_SOCKET:
            raise DrbdBackupError(f"{folder} is too long a name for a socket", "Name a shorter folder with --to.")
        return folder, shown_to_others(data)
    os.mkdir(os.path.join(folder, _DATA), 0o700)
    os.chown(folder, account.uid, account.gid)
    place = next(path for path in _PLACES if os.path.isdir(path))
    mount.bind(folder, place)
    mount.bind(shown_to_others(data), os.path.join(place, _DATA))
    return place, os.path.join(place, _DATA)


def _made_ready(
    job: dict[str, Any], folder: str, data: str, account: Account | None, channel: Channel
) -> list[list[str]]:
    """What is wrong with the physical backup `data`; nothing if it is one that a server can start from now.

    Raises DrbdBackupError if it cannot be made ready for a reason that says nothing of it.
    """
    missing = [name for name in (mariadb.SETTINGS, mariadb.CHECKPOINTS) if not os.path.isfile(os.path.join(data, name))]
    if missing:
        return [[name, "is missing: the backup was never whole"] for name in missing]
    command = mariadb.prepare(data, scratch=folder)
    try:
        why = load.prepare(replace(command, argv=(*mariadbd.as_account(account), *command.argv)), data, channel)
        return [[job["mariadb"], why]] if why else []
    except DatabaseFailed as error:
        if told := mariadbd.corruption(error.message):
            return [[job["mariadb"], why] for why in told]
        raise DrbdBackupError(f"{job['mariadb']} cannot be made ready here: {error.message}", _OF_A_BACKUP) from None


def _judged(
    job: dict[str, Any], folder: str, data: str, account: Account | None, channel: Channel
) -> tuple[int, list[list[str]]]:
    """How many tables there are, and what is wrong; a server that cannot cope with its data is one problem."""
    if job["is_backup"]:
        command = mariadbd.server(folder, data, account, [mariadbd.SMALL_LOG], os.path.join(data, mariadb.SETTINGS))
    else:
        command = mariadbd.server(folder, data, account, job["options"])
    running = proc.start(command, stdout=os.path.join(folder, "said"))
    try:
        _await(running, folder, channel, job["starting"])
        found = _check(running, folder, channel, job["checking"])
        return len(found), [[table, why] for table, why in found if why]
    except ToolError as error:
        if told := mariadbd.corruption(_log(folder)):
            return 0, [[job["mariadb"], why] for why in told]
        hint = _OF_A_BACKUP if job["is_backup"] else _HINT
        raise DrbdBackupError(f"mariadbd cannot be had on what was restored: {error.message}", hint) from None
    finally:
        running.end()


_HINT = "Does it need options to read this data? Name them in `drill.options`."
_OF_A_BACKUP = "This says nothing of the backup. Is MariaDB here as new as the server's, and is there memory and room?"


def _await(running: Running, folder: str, channel: Channel, patience: float) -> None:
    """Until the server takes questions. Raises ToolError if it ends before, Stalled."""
    until = monotonic() + patience
    while not mariadbd.is_ready(_log(folder)):
        if running.wait(_POLL) is not None:
            raise ToolError(mariadbd.last_errors(_log(folder)) or "".join(running.stderr))
        if monotonic() > until:
            raise Stalled(f"mariadbd is not ready after {patience:g} s")
        channel.progress(entries=0, done_bytes=0, copied_bytes=0)


def _check(running: Running, folder: str, channel: Channel, patience: float) -> list[tuple[str, str]]:
    """Every table, and what is wrong with it. Raises ToolError if the server gives up meanwhile, Stalled."""
    output = os.path.join(folder, "checked")
    checking = proc.start(mariadbd.check(folder), stdout=output)
    until = monotonic() + patience
    try:
        while (ended := checking.wait(_POLL)) is None:
            if monotonic() > until:
                raise Stalled(f"CHECK TABLE is not done after {patience:g} s")
            channel.progress(entries=0, done_bytes=0, copied_bytes=0)
    finally:
        checking.end()
    with open(output, encoding="utf-8", errors="replace") as lines:
        found = list(mariadbd.checked(lines))
    if ended != 0 and (running.wait(_POLL) is not None or not any(why for _, why in found)):
        raise ToolError("".join(checking.stderr).strip() or f"mariadb-check ended with {ended}")
    return found


def _log(folder: str) -> str:
    try:
        with open(os.path.join(folder, mariadbd.LOG), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
