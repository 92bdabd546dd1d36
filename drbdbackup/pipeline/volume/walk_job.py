"""The caged job that walks the source and writes the spool."""

from __future__ import annotations

import time

from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.pipeline.volume.source_protocol import Walked, WalkJob, WalkProgress
from drbdbackup.scan import Problem, Walk, exclusion, raise_open_files, write_spool
from drbdbackup.tools import mount


def do(job: WalkJob, channel: Channel) -> Walked:
    """Walk `source` without what `exclude` matches into the file `spool`."""
    source = job.source
    raise_open_files()
    guard = guarded(job)
    if job.lvm_snapshot is not None:
        started_ns = job.lvm_snapshot.started_ns
    else:
        started_ns = time.time_ns()  # before the sync: what is written while that runs is not settled
        mount.sync(source)
    problems: list[Problem] = []
    walk = Walk(source, exclusion(job.exclude), guard.mountpoints, problems.append)
    totals = write_spool(
        walk, job.spool, started_ns, problems, lambda met: channel.send_progress(WalkProgress(met.entries))
    )
    guard.check()
    return Walked(totals.entries, totals.files, totals.bytes)
