"""The caged job that removes the snapshots which retention drops."""

from __future__ import annotations

from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.target.open_target import open_target
from drbdbackup.pipeline.target.prune_protocol import Drop, PruneJob, PruneOpened
from drbdbackup.pipeline.target.remove_snapshots import copies_there, drop, sweep
from drbdbackup.targets import layout


def do(job: PruneJob, channel: Channel) -> Ended:
    """Say what lies there, and remove what the supervisor then answers."""
    with open_target(job, write=True) as at, channel.beating():
        there = (*layout.snapshots(at.root, job.resource), *layout.safety(at.root, job.resource))
        channel.send(PruneOpened(tuple(copies_there(at.medium, at.identity.medium, there))))
        answer = channel.receive(Drop)
        sweep(at, job.removal)
        drop(at, job.resource, answer.drop, channel)
    return Ended()
