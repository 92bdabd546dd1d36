"""The caged job that walks the source and writes the spool."""

from __future__ import annotations

import os
import time
from typing import Any

from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.source import guarded
from drbdbackup.scan import Problem, Walk, exclusion, raise_open_files, write_spool
from drbdbackup.tools import mount


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Walk `source` without what `exclude` matches into the file `spool`; entries, files, bytes and problems."""
    source = job["source"]
    raise_open_files()
    guard = guarded(job)
    if instant := job.get("instant"):
        started_ns = instant["started_ns"]
    else:
        started_ns = time.time_ns()  # before the sync: what is written while that runs is not settled
        mount.sync(source)
    problems: list[Problem] = []
    walk = Walk(source, exclusion(tuple(job["exclude"])), guard.mountpoints, problems.append)
    totals = write_spool(walk, job["spool"], started_ns, problems, lambda met: channel.progress(seen=met.entries))
    guard.check()
    return {
        "entries": totals.entries, "files": totals.files, "bytes": totals.bytes,
        "problems": [[os.fsdecode(problem.path), problem.why] for problem in problems[:1000]],
    }  # fmt: skip
