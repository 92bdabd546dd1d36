"""MariaDB's (or MySQL's) own programs: their argv, and how one knows that they came to their end.

Credentials are never in argv, where everybody can read them: a file has them, and its option has to be the first. By
its other options a file could have them load any code (`plugin_dir`) and write to any file (`log_error`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config import open_to_others
from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import DatabaseFailed, ToolMissing
from drbdbackup.proc import FOREVER, Command

# The names of today, then those of before.
_DUMP, _CLIENT, _BACKUP = ("mariadb-dump", "mysqldump"), ("mariadb", "mysql"), ("mariadb-backup", "mariabackup")
_PACKAGE: dict[tuple[str, ...], str] = {_DUMP: "mariadb-client", _CLIENT: "mariadb-client", _BACKUP: "mariadb-backup"}
_TAIL = 4096  # bytes
_KEPT_LINES = 10_000  # lines
SETTINGS, CHECKPOINTS = "backup-my.cnf", "xtrabackup_checkpoints"
_END_OF_LOG = re.compile(r"End of log at LSN=(\d+)")
_COPIED_TO = re.compile(r"^last_lsn = (\d+)$", re.MULTILINE)

_NUMBER, _WORD = re.compile(r"\d{1,19}"), re.compile(r"[A-Za-z0-9_]{1,32}")
_SIZE = r"\d{1,15}[KMGkmg]?"
_DATA_FILE = re.compile(rf"(?:.*/)?([A-Za-z0-9_][A-Za-z0-9_.-]*:{_SIZE}(?::autoextend(?::max:{_SIZE})?)?)")
# What says how the files are laid out, as the program itself writes it. Nothing here names a program or a folder.
_LAYOUT = {
    "innodb_page_size": re.compile(r"\d{1,6}[Kk]?"),
    "innodb_checksum_algorithm": _WORD,
    "innodb_log_file_size": re.compile(_SIZE),
    "innodb_log_files_in_group": _NUMBER,
    "innodb_log_block_size": _NUMBER,
    "innodb_undo_tablespaces": _NUMBER,
    "innodb_compression_level": _NUMBER,
    "innodb_compression_algorithm": _WORD,
    "innodb_compression_default": _WORD,
}
_DATA_FILES = "innodb_data_file_path"
# Nothing needs more to read a backup: a log has the size that its file has.
_AT_MOST = {
    "innodb_log_file_size": 96 << 20,
    "innodb_log_files_in_group": 2,
    "innodb_log_block_size": 4096,
    "innodb_undo_tablespaces": 127,
    "innodb_page_size": 64 << 10,
}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Settings(Struct, frozen=True):
    """What is used of the settings of a physical backup: `text` is an option file of our own.

    `wrong` says why they cannot be used, "" if they can. `loads_plugin`: they name a plugin, which is never loaded.
    `data_files` are the names of files that must be there, and how many bytes each has at least: they would be made.
    """

    text: str = ""
    wrong: str = ""
    loads_plugin: bool = False
    data_files: tuple[tuple[str, int], ...] = ()


def dump(database: DatabaseConfig, file: str) -> Command:
    """Write all that can be read at one instant, as SQL, to `file`. Raises ToolMissing, DatabaseFailed.

    `--single-transaction` gives that instant for InnoDB, and locks nothing.
    """
    chosen = ("--databases", *database.databases) if database.databases else ("--all-databases",)
    return _command(
        _DUMP, database, "--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob",
        "--comments", f"--result-file={file}", *chosen,
    )  # fmt: skip


def is_whole(file: int) -> bool:
    """Whether a dump (open for reading) has its last line: the program writes it at the very end."""
    size = os.fstat(file).st_size
    return b"\n-- Dump completed" in os.pread(file, _TAIL, max(0, size - _TAIL))


def backup(database: DatabaseConfig, folder: str) -> Command:
    """Copy the server's files to `folder`, which it makes, with all that makes them consistent.

    Raises ToolMissing, DatabaseFailed.
    """
    return _command(_BACKUP, database, "--backup", f"--target-dir={folder}")


def settings(text: str) -> Settings:
    """What is used of the SETTINGS of a backup, which anybody who can write to its medium may have written.

    Only what describes the files, and only if it is written as `mariadb-backup` writes it, and no larger than needed.
    All else is left out: an option file can have a program load any code (`plugin_load`) and write anywhere.
    """
    layout, group, loads_plugin = dict[str, str](), "", False
    for line in map(str.strip, text.splitlines()):
        name, _, value = (part.strip() for part in line.partition("="))
        name = name.lower().replace("-", "_")
        if line.startswith("["):
            group = line
        elif group == "[mysqld]" and name in {*_LAYOUT, _DATA_FILES}:
            layout[name] = _data_files(value) if name == _DATA_FILES else _as_written(name, value)
            if not layout[name]:
                return Settings(wrong=f"{name} has a value that mariadb-backup does not write")
        loads_plugin = loads_plugin or name.startswith("plugin_load")
    lines = ("[mysqld]", *(f"{name}={value}" for name, value in layout.items()))
    files = tuple(map(_name_and_size, filter(None, layout.get(_DATA_FILES, "").split(";"))))
    return Settings("\n".join(lines) + "\n", loads_plugin=loads_plugin, data_files=files)


def _as_written(name: str, value: str) -> str:
    if not _LAYOUT[name].fullmatch(value):
        return ""
    return str(most) if (most := _AT_MOST.get(name)) is not None and _bytes(value) > most else value


def _bytes(size: str) -> int:
    unit = _UNITS.get(size[-1].upper())
    return int(size[:-1]) * unit if unit else int(size)


def _name_and_size(file: str) -> tuple[str, int]:
    name, size, *_ = file.split(":")
    return name, _bytes(size)


def _data_files(value: str) -> str:
    """A backup has all of these at its top, wherever its server had them."""
    found = [_DATA_FILE.fullmatch(one.strip()) for one in value.split(";")]
    return ";".join(one[1] for one in found if one) if all(found) else ""


def prepare(folder: str, scratch: str = "") -> Command:
    """Make such a copy one that a server can start from; with temporary files in `scratch`. Raises ToolMissing.

    The SETTINGS in it have to be ours (see `settings`) by then: the program looks there for a plugin to load, whatever
    option file it is given (seen with 10.11).
    """
    argv = (
        _found(_BACKUP), f"--defaults-file={os.path.join(folder, SETTINGS)}", "--prepare", f"--target-dir={folder}",
        *((f"--tmpdir={scratch}",) if scratch else ()),
    )  # fmt: skip
    return Command(argv=argv, timeout=FOREVER, secret=True, kept=_KEPT_LINES, memory=proc.memory_for_untrusted_input())


def cut_off(lines: Iterable[str], checkpoints: str) -> str:
    """What of its log a copy lacks, by what `prepare` said and by its own CHECKPOINTS; "" if nothing.

    `prepare` takes the end of a log that was cut off for its end, and says that all is well (seen with 10.11). Before
    10.8 it does not say where it ended: then "" too.
    """
    ends = [int(found[1]) for line in lines if (found := _END_OF_LOG.search(line))]
    copied = _COPIED_TO.search(checkpoints)
    if not ends or not copied or ends[-1] >= int(copied[1]):
        return ""
    return f"its log is cut off: it ends at {ends[-1]}, and was copied up to {copied[1]}"


def load(database: DatabaseConfig) -> Command:
    """Do what the SQL on stdin says, and stop at the first mistake. Raises ToolMissing, DatabaseFailed.

    What is no SQL (`system`, `source`, `tee`) is refused, and so is a file of ours that the SQL asks for.
    """
    return _command(_CLIENT, database, "--batch", "--binary-mode", "--local-infile=0", "--loose-sandbox")


def _command(programs: tuple[str, ...], database: DatabaseConfig, *options: str) -> Command:
    credentials = (f"--defaults-file={_of_roots(database.defaults_file)}",) if database.defaults_file else ()
    return Command(argv=(_found(programs), *credentials, *options), timeout=FOREVER, secret=True)  # errors name it only


def _of_roots(file: str) -> str:
    """The same, as long as nobody else can change it. Raises DatabaseFailed."""
    with suppress(OSError):  # the program says that it cannot read it
        if (exposed := open_to_others.first_of([file])) is not None:
            raise DatabaseFailed(f"{file} is not obeyed by root: {exposed.why}", exposed.hint)
    return file


def _found(programs: tuple[str, ...]) -> str:
    for program in programs:
        if path := proc.find(program):
            return path
    raise ToolMissing(f"{programs[0]} is not installed", f"apt install {_PACKAGE[programs]}")
