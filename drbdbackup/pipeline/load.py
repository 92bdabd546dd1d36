"""The caged job that gives a dump to the running server, or makes a physical backup one that a server can start from.

It never decides what is overwritten: that was asked and answered before.
"""

from __future__ import annotations

from typing import Any

from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.dump import database_config
from drbdbackup.pipeline.working import work
from drbdbackup.tools import mariadb

_LOADING = "What the dump says up to there is done. Does the server run, and may `defaults_file` change everything?"
_PREPARING = "Restore another snapshot: this backup cannot be used."


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`step` "load": give the file `brought` to the server; "prepare": make the folder `brought` ready."""
    if job["step"] == "load":
        work(mariadb.load(database_config(job["database"])), channel, _LOADING, stdin=job["brought"])
    else:
        work(mariadb.prepare(job["brought"]), channel, _PREPARING)
    return {}
