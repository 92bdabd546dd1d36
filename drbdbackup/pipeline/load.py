"""The caged job that gives a dump to the running server, or makes a physical backup one that a server can start from.

It never decides what is overwritten: that was asked and answered before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from drbdbackup import proc
from drbdbackup.errors import DatabaseFailed
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.dump import database_config
from drbdbackup.pipeline.working import work
from drbdbackup.tools import mariadb

_LOADING = "What the dump says up to there is done. Does the server run, and may `defaults_file` change everything?"
_PREPARING = "Restore another snapshot: this backup cannot be used."
_LARGEST = 1 << 16  # characters


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`step` "load": give the file `brought` to the server; "prepare": make the folder `brought` ready."""
    if job["step"] == "load":
        work(mariadb.load(database_config(job["database"])), channel, _LOADING, stdin=job["brought"])
    elif why := prepare(mariadb.prepare(job["brought"]), job["brought"], channel):
        raise DatabaseFailed(why, _PREPARING)
    return {}


def prepare(command: proc.Command, folder: str, channel: Channel) -> str:
    """Have the physical backup in `folder` made ready by `command`; what it lacks all the same, "" if nothing.

    Raises DatabaseFailed if that does not end well.
    """
    return mariadb.cut_off(work(command, channel, _PREPARING), _checkpoints(folder))


def _checkpoints(folder: str) -> str:
    """What the backup says of itself; `mariadb-backup` does not prepare one that says nothing."""
    with (
        suppress(FileNotFoundError),
        open(os.path.join(folder, mariadb.CHECKPOINTS), encoding="utf-8", errors="replace") as file,
    ):
        return file.read(_LARGEST)
    return ""
