"""The caged job that gives a dump to the running server, or makes a physical backup one that a server can start from.

It never decides what is overwritten: that was asked and answered before.
"""

from __future__ import annotations

import os
import stat

from drbdbackup.errors import DatabaseFailed
from drbdbackup.pipeline.cage.long_program import work
from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.database import mariadb_sandbox, prepare
from drbdbackup.pipeline.database.load_protocol import LoadJob, PrepareJob
from drbdbackup.pipeline.files.tree import open_folder
from drbdbackup.tools import mariadb

_OURS = 3  # what was made, the folder of its database, and the one of all
_LOADING = "What the dump says up to there is done. Does the server run, and may `defaults_file` change everything?"


def do(job: LoadJob | PrepareJob, channel: Channel) -> Ended:
    """Do what the job says. Raises DatabaseFailed."""
    if isinstance(job, LoadJob):
        _load(job, channel)
    else:
        _prepare(job, channel)
    return Ended()


def _load(job: LoadJob, channel: Channel) -> None:
    if not stat.S_ISREG(os.lstat(job.path).st_mode):
        raise DatabaseFailed("the dump in the snapshot is no plain file", prepare.PREPARING)
    _check_maker(job.path)
    work(mariadb.load(job.database), channel, _LOADING, stdin=job.path)


def _check_maker(path: str) -> None:
    """Raises DatabaseFailed where somebody else than root owns it, or a folder above it that a run makes.

    Who owns the top of the volume can put a folder of his own there, and the SQL in it would be done as root.
    """
    at = path
    for _ in range(_OURS):
        if (owner := os.lstat(at).st_uid) != os.geteuid():
            message = f"{os.path.basename(at)} in the snapshot belongs to user {owner}: no run of drbdbackup made it"
            raise DatabaseFailed(message, "Take another snapshot, or restore it with --path, and read it first.")
        at = os.path.dirname(at)


def _prepare(job: PrepareJob, channel: Channel) -> None:
    _check_maker(job.path)
    with open_folder(job.path) as data:
        has_plugin = prepare.loads_plugin(data)
        for wrong in prepare.rewrite_settings(data):
            raise DatabaseFailed(f"{wrong.path} {wrong.reason}", prepare.PREPARING)
        commands, caged = [mariadb.prepare("")], job.here.caged
        with mariadb_sandbox.entered(job.path, data, None, commands, caged=caged, channel=channel) as box:
            why = prepare.prepare(box, data, channel, has_plugin=has_plugin)
    if why:
        raise DatabaseFailed(why, prepare.PREPARING)
