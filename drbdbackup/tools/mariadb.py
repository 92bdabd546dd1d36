"""MariaDB's (or MySQL's) own programs: their argv, and how one knows that they came to their end.

Credentials are never in argv, where everybody can read them: a file has them, and its option has to be the first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from drbdbackup import proc
from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import ToolMissing
from drbdbackup.proc import FOREVER, Command

# The names of today, then those of before.
_DUMP, _CLIENT, _BACKUP = ("mariadb-dump", "mysqldump"), ("mariadb", "mysql"), ("mariadb-backup", "mariabackup")
_PACKAGE: dict[tuple[str, ...], str] = {_DUMP: "mariadb-client", _CLIENT: "mariadb-client", _BACKUP: "mariadb-backup"}
_TAIL = 4096
_TOLD = 10_000  # lines
SETTINGS, CHECKPOINTS = "backup-my.cnf", "xtrabackup_checkpoints"
_END_OF_LOG = re.compile(r"End of log at LSN=(\d+)")
_COPIED_TO = re.compile(r"^last_lsn = (\d+)$", re.MULTILINE)


def dump(database: DatabaseConfig, file: str) -> Command:
    """Write all that can be read at one instant, as SQL, to `file`. Raises ToolMissing.

    `--single-transaction` gives that instant for InnoDB, and locks nothing.
    """
    chosen = ("--databases", *database.databases) if database.databases else ("--all-databases",)
    return _command(
        _DUMP, database, "--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob",
        "--comments", f"--result-file={file}", *chosen,
    )  # fmt: skip


def is_whole(file: int) -> bool:
    """Whether a dump (open for reading) has its last line: the program writes it when all has been said."""
    size = os.fstat(file).st_size
    return b"\n-- Dump completed" in os.pread(file, _TAIL, max(0, size - _TAIL))


def backup(database: DatabaseConfig, folder: str) -> Command:
    """Copy the server's files to `folder`, which it makes, with all that makes them consistent. Raises ToolMissing."""
    return _command(_BACKUP, database, "--backup", f"--target-dir={folder}")


def prepare(folder: str, scratch: str = "") -> Command:
    """Make such a copy one that a server can start from; with temporary files in `scratch`. Raises ToolMissing.

    It has with it what its server was set to: another page size, say, is no mistake of it.
    """
    argv = (
        _found(_BACKUP), f"--defaults-file={os.path.join(folder, SETTINGS)}", "--prepare", f"--target-dir={folder}",
        *((f"--tmpdir={scratch}",) if scratch else ()),
    )  # fmt: skip
    return Command(argv, timeout=FOREVER, secret=True, kept=_TOLD)


def cut_off(told: Iterable[str], checkpoints: str) -> str:
    """What of its log a copy lacks, by what `prepare` said and by its own CHECKPOINTS; "" if nothing.

    `prepare` takes the end of a log that was cut off for its end, and says that all is well (seen with 10.11). Before
    10.8 it does not say where it ended: then "" too.
    """
    ends = [int(found[1]) for line in told if (found := _END_OF_LOG.search(line))]
    copied = _COPIED_TO.search(checkpoints)
    if not ends or not copied or ends[-1] >= int(copied[1]):
        return ""
    return f"its log is cut off: it ends at {ends[-1]}, and was copied up to {copied[1]}"


def load(database: DatabaseConfig) -> Command:
    """Do what the SQL on stdin says, and stop at the first mistake. Raises ToolMissing."""
    return _command(_CLIENT, database, "--batch", "--binary-mode")


def _command(programs: tuple[str, ...], database: DatabaseConfig, *options: str) -> Command:
    credentials = (f"--defaults-file={database.defaults_file}",) if database.defaults_file else ()
    return Command((_found(programs), *credentials, *options), timeout=FOREVER, secret=True)  # errors name it only


def _found(programs: tuple[str, ...]) -> str:
    for program in programs:
        if path := proc.find(program):
            return path
    raise ToolMissing(f"{programs[0]} is not installed", f"apt install {_PACKAGE[programs]}")
