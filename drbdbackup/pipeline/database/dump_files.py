"""Where the databases of a volume leave their consistent copies, and how these are distinguished.

In a folder on the volume itself, so that the walk finds them like everything else there: every target, `verify`, the
peer and an older snapshot have them without anybody doing anything for it. Not in `.drbdbackup`, which is no part of a
snapshot. `exclude` cannot leave it out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress

from drbdbackup import open_flags
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.scan import DATABASES
from drbdbackup.tools import mariadb

HOME, VOLUME = "drbdbackup-drill", "volume"
FOLDER = os.fsdecode(DATABASES)
DUMP = "dump.sql"
BACKUP = "backup-"
PARTIAL = ".partial"
NO_END = "the dump is truncated"


def place(database: str) -> str:
    """The folder of one database, from the volume's top."""
    return f"{FOLDER}/{database}"


def looked_at(volume: int) -> Iterator[tuple[str, str]]:
    """Every dump in a tree (open), by its path from there, and what is wrong with it: "" if it comes to its end.

    No symlink is followed, and nothing is waited for.
    """
    with closing(ParentOpener(volume)) as opener:
        for folder in _places(opener):
            path = f"{folder}/{DUMP}"
            with suppress(FileNotFoundError, NotADirectoryError):
                yield path, _wrong(*opener.parent(os.fsencode(path)))


def backups(volume: int) -> Iterator[str]:
    """The newest physical backup of each database in a tree (open), by its path from there."""
    with closing(ParentOpener(volume)) as opener:
        for folder in _places(opener):
            with suppress(FileNotFoundError, NotADirectoryError):
                if found := newest(os.listdir(opener.parent(os.fsencode(f"{folder}/."))[0])):
                    yield f"{folder}/{found}"


def _places(opener: ParentOpener) -> Iterator[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        yield from map(place, sorted(os.listdir(opener.parent(DATABASES + b"/.")[0])))


def newest(names: Iterable[str]) -> str:
    """The newest physical backup of these names, "" for none: what a run that was killed left of one is none."""
    return max((one for one in names if one.startswith(BACKUP) and not one.endswith(PARTIAL)), default="")


def _wrong(folder: int, name: bytes) -> str:
    """Raises FileNotFoundError."""
    os.stat(name, dir_fd=folder, follow_symlinks=False)
    try:
        with open(os.open(name, open_flags.READ, dir_fd=folder), "rb") as file:
            return "" if mariadb.is_whole(file.fileno()) else NO_END
    except OSError as error:
        return f"cannot be read: {error.strerror}"
