"""Makes a physical backup of a database one that a server can start from, and believes nothing that it says.

Its settings are written anew from what describes its files, before any program sees them: see `mariadb.settings`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from drbdbackup import open_flags
from drbdbackup.errors import DatabaseFailed
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.long_program import work
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.database.mariadb_sandbox import MariadbSandbox
from drbdbackup.tools import mariadb

PREPARING = "Restore another snapshot: this backup cannot be used."
_LARGEST = 1 << 16  # bytes
_ENCRYPTED = (
    "Its settings load a plugin (are its tables encrypted?), and none is loaded that a snapshot names. Restore its "
    "folder with `--path`, read its backup-my.cnf, and prepare it by hand."
)


def special_files(data: int) -> Iterator[Problem]:
    """What lies in a folder (open) and is neither folder nor plain file: no program should follow or open it."""
    for folder, folders, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in (*folders, *files):
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                kind = "a symlink" if stat.S_ISLNK(mode) else "no plain file"
                path = os.path.normpath(os.path.join(folder, name))
                yield Problem(path, f"is {kind}, which no backup of a database has")


def rewrite_settings(data: int) -> list[Problem]:
    """Write the settings of the backup in a folder (open) anew; what is wrong with it, if it cannot be used."""
    wrong = list(special_files(data))
    if wrong:
        return wrong
    texts = [_read(data, name) for name in (mariadb.SETTINGS, mariadb.CHECKPOINTS)]
    for name, text in zip((mariadb.SETTINGS, mariadb.CHECKPOINTS), texts, strict=True):
        if text is None:
            wrong.append(Problem(name, "is missing: the backup was never whole"))
    settings = mariadb.settings(texts[0] or "")
    if settings.wrong:
        wrong.append(Problem(mariadb.SETTINGS, settings.wrong))
    wrong += _missing(data, settings.data_files)
    if not wrong:
        os.unlink(mariadb.SETTINGS, dir_fd=data)
        with open(os.open(mariadb.SETTINGS, open_flags.CREATE, 0o600, dir_fd=data), "w", encoding="ascii") as file:
            file.write(settings.text)
    return wrong


def _missing(data: int, files: Iterable[tuple[str, int]]) -> Iterator[Problem]:
    """Data files that the settings name and the backup has not, or not so large: InnoDB would make them."""
    for name, size in files:
        try:
            there = os.stat(name, dir_fd=data, follow_symlinks=False).st_size
        except OSError:
            there = -1
        if there < size:
            found = f"it has {there}" if there >= 0 else "it is missing"
            why = f"innodb_data_file_path says that {name} has {size} bytes, and {found}"
            yield Problem(mariadb.SETTINGS, why)


def loads_plugin(data: int) -> bool:
    """Whether its settings, as they came, name a plugin."""
    return mariadb.settings(_read(data, mariadb.SETTINGS) or "").loads_plugin


def prepare(sandbox: MariadbSandbox, data: int, channel: Channel, *, has_plugin: bool) -> str:
    """Have the physical backup `data`, made harmless, prepared; what it lacks all the same, "" if nothing.

    Raises DatabaseFailed if that does not end well.
    """
    command = mariadb.prepare(sandbox.data, sandbox.work)
    lines = work(command, channel, _ENCRYPTED if has_plugin else PREPARING, within=sandbox.prefix)
    for found in special_files(data):
        raise DatabaseFailed(f"{found.path} {found.reason}", PREPARING)
    return mariadb.cut_off(lines, _read(data, mariadb.CHECKPOINTS) or "")


def _read(data: int, name: str) -> str | None:
    """The beginning of a plain file, None if there is none."""
    try:
        file = os.open(name, open_flags.READ, dir_fd=data)
    except OSError:
        return None
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        return opened.read(_LARGEST).decode(errors="replace")
