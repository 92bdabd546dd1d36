"""The caged job that brings to its disk what was written to the volume, shortly before a snapshot of that disk is made.

It is all that such a run does with the volume itself.
"""

from __future__ import annotations

from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.pipeline.volume.source_protocol import FlushJob
from drbdbackup.tools import mount


def do(job: FlushJob, channel: Channel) -> Ended:
    """Sync the file system at `source`. Raises Interrupted if it is not mounted there (any more)."""
    guard = guarded(job)
    with channel.beating():
        mount.sync(job.source)
    guard.check()
    return Ended()
