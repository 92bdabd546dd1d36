"""The caged job that removes the snapshots which retention drops.

It never decides which: the supervisor does, from what this job has read there.
"""

from __future__ import annotations

from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.target.open_target import open_target
from drbdbackup.pipeline.target.prune_protocol import Drop, PruneEnd, PruneJob, PruneOpened
from drbdbackup.pipeline.target.published_snapshots import published
from drbdbackup.pipeline.target.remove_snapshots import drop, sweep


def do(job: PruneJob, channel: Channel) -> PruneEnd:
    """Say what lies there, and remove what the supervisor then answers."""
    with open_target(job, write=True) as at, channel.beating():
        channel.send(PruneOpened(published(at.medium, at.identity.medium, job.resource).copies))
        answer = channel.receive(Drop)
        sweep(at, job.removal)
        drop(at, job.resource, answer.drop, channel)
        return PruneEnd(at.room)
