"""The caged job that walks the source and writes the spool.

It reads names and metadata, never the content of a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.pipeline.volume.hole_quota import HoleQuota
from drbdbackup.pipeline.volume.source_protocol import Walked, WalkJob, WalkProgress
from drbdbackup.scan import Walk, exclusion, raise_open_files, write_spool
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
    left_out: list[bytes] = []
    excluded = exclusion(job.exclude)
    if excluded is not None and job.tells_left_out:
        excluded = _noted(excluded, left_out)
    walk = Walk(source, excluded, guard.mountpoints, problems.append, refused=HoleQuota().refused)
    totals = write_spool(
        walk, job.spool, started_ns, problems, lambda met: channel.send_progress(WalkProgress(met.entries)), left_out
    )
    guard.check()
    return Walked(totals.entries, totals.files, totals.bytes)


def _noted(excluded: Callable[[bytes, bool], bool], left_out: list[bytes]) -> Callable[[bytes, bool], bool]:
    """The same test, which notes what it excludes."""

    def noted(path: bytes, is_folder: bool) -> bool:  # noqa: FBT001 as all such tests of a path
        is_excluded = excluded(path, is_folder)
        if is_excluded:
            left_out.append(path)
        return is_excluded

    return noted
