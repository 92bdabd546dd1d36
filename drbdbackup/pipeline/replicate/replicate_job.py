"""The caged job that fetches a snapshot to a disk of this node: open both, make room, fill, publish, prune.

It takes the name, the sequence and the generation of the snapshot that it fetches, and decides nothing about what goes.
It never touches the volume.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import __version__, manifest
from drbdbackup.catalog.bodies import copy_body
from drbdbackup.errors import Altered, Damaged, TargetError
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, open_copy
from drbdbackup.pipeline.files.ssh_rate_limit import slowed
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.replicate.fill_replica import Filled, Replica, fill
from drbdbackup.pipeline.replicate.replicate_protocol import ReplicaPublished, ReplicaReady, ReplicateJob
from drbdbackup.pipeline.snapshot import make_room
from drbdbackup.pipeline.snapshot.copy_protocol import Done, Finish, Noted, Opened, TargetFacts
from drbdbackup.pipeline.snapshot.link_sources import (
    left_behind,
    make_tree,
    newest_base,
    note_abilities,
    note_whole,
    signed,
)
from drbdbackup.pipeline.snapshot.publish import publish
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget, open_target
from drbdbackup.pipeline.target.published_snapshots import published
from drbdbackup.pipeline.target.target_protocol import TargetJob
from drbdbackup.scan import Totals, raise_open_files, write_spool_of
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.sidecar import KEPT_PROBLEMS, Sidecar

_SHOWN = 3


class _Coming(Struct, frozen=True, kw_only=True):
    """The replica as `make_room` needs to know it."""

    resource: str
    about: TargetFacts
    source: str
    spool: str
    patience: float
    scratch: str
    to_open: TargetJob


def do(job: ReplicateJob, channel: Channel) -> Done:
    """Fetch the job's copy. Raises Damaged, with the files, where the source is not what its manifest says."""
    os.umask(0o077)
    raise_open_files()
    wanted = job.copy
    with open_target(job.to_open, write=True, may_enrol=True) as at, open_copy(job, channel) as copy:
        there = published(at.medium, at.identity.medium, wanted.resource)
        channel.send(Opened(at.known_as, at.abilities.lacks(), "", there.copies, there.names))
        again = job.again and wanted.snapshot in there.names
        if wanted.snapshot in there.names and not again:
            return Done((f"{wanted.snapshot} is there already",), at.room)
        if at.abilities.subvolumes:
            remove_snapshots.sweep(at, job.to_open.removal)  # nothing is linked from what interrupted ones left
        if lacks := at.abilities.lacks():
            raise TargetError(
                f"{at.medium.location} cannot hold {', '.join(lacks)}, so no snapshot is fetched to it",
                "Use ext4, XFS or btrfs on that disk, or set replicate = false for the target.",
            )
        _refuse_other(job, copy.sidecar)
        _make_room(job, channel, at, copy)
        fresh = _begin(at, wanted.resource, wanted.snapshot)
        # If `again`, no byte of the new one may be one of the damaged one, nor of one that shares it.
        backups = [] if again else there.backups
        with make_room.cleared_when_full(fresh), ExitStack() as stack:
            replica = _replica(job, channel, at, copy, fresh, backups, stack)
            filled = fill(replica, at.link_workers)
            if filled is None:
                with channel.beating():  # what is sound is noted in the newest
                    remove_snapshots.sweep(at, job.to_open.removal, but="" if at.abilities.subvolumes else fresh)
                raise _damaged(copy, replica.damaged)
            note_whole(at.root, fresh, filled.manifest_sha256, job.key)
        new_sidecar = _sidecar(at, copy, replica, filled)
        body = publish(at, fresh, new_sidecar, lambda: _have_it_noted(channel, at, fresh, replica), again=again)
        channel.send(ReplicaPublished(
            copy=body, files=replica.files, bytes=replica.size, is_all=not replica.linked,
        ))  # fmt: skip
        answer = channel.receive(Finish)
        at.check_still_there()
        with channel.beating():
            remove_snapshots.sweep(at, job.to_open.removal)
            remove_snapshots.drop(at, wanted.resource, answer.prune, channel)
        return Done(room=at.room)


def _refuse_other(job: ReplicateJob, recorded: Sidecar) -> None:
    """This node will vouch for what the snapshot says of itself. Raises Altered where the catalog says otherwise."""
    if (recorded.sequence, recorded.started_at, recorded.node) != (
        job.sequence,
        job.started_at,
        job.made_by,
    ) or recorded.purpose:
        raise Altered(
            f"{recorded.snapshot} does not say of itself what the catalog says of it",
            "Find out who can write to that medium, and what the node that has made it says: `drbdbackup list` there.",
        )


def _make_room(job: ReplicateJob, channel: Channel, at: OpenTarget, copy: OpenCopy) -> None:
    spool = os.path.join(job.copy.scratch, "spool")
    with manifest.reading(copy.manifest) as lines:
        recorded = copy.sidecar
        totals = Totals(
            recorded.entries,
            recorded.files,
            recorded.bytes,
            recorded.bytes if recorded.allocated is None else recorded.allocated,
        )
        write_spool_of(spool, (manifest.split(line)[1] for line in lines), totals)
    make_room.make_room_for(
        _Coming(
            resource=job.copy.resource, about=job.about, source=copy.data, spool=spool, patience=job.copy.patience,
            scratch=job.copy.scratch, to_open=job.to_open,
        ),
        channel, at,
    )  # fmt: skip


def _begin(at: OpenTarget, resource: str, snapshot: str) -> str:
    """The fresh folder. What an interrupted one left of the same snapshot is linked from, under another name."""
    folder = layout.partial(at.root, resource, snapshot)
    if os.path.lexists(folder):
        aside = next(name for number in range(2, 1 << 20) if not os.path.lexists(name := f"{folder}-{number}"))
        os.rename(folder, aside)
    layout.make_folder(layout.home(at.root))
    layout.make_folder(layout.resource_folder(at.root, resource))
    os.mkdir(folder, 0o700)
    return folder


def _replica(
    job: ReplicateJob, channel: Channel, at: OpenTarget, copy: OpenCopy, fresh: str, backups: list[Sidecar],
    stack: ExitStack,
) -> Replica:  # fmt: skip
    """Open the older copies on the disk, and the fresh tree: an empty folder, or a clone of the newest one."""
    can, scratch = at.abilities.as_document(), job.copy.scratch
    newest = newest_base(at.root, backups, job.about, can, stack, scratch)
    bases = [newest] if newest else []
    note_abilities(fresh, can)
    data = layout.data(fresh)
    updating = make_tree(data, newest, subvolumes=at.abilities.subvolumes)
    if at.abilities.subvolumes:
        bases = bases if updating else []
    elif not job.again:
        bases += left_behind(at.root, job.copy.resource, fresh, can, stack, job.about, scratch)
    return Replica(
        copy=replace(copy, shell=slowed(copy.shell, job.rate)),
        fresh=fresh, data=data, scratch=scratch, bases=bases, updating=updating,
        published=1 if newest else 0, rate=job.rate,
        sign=lambda lines: signed(lines, job.key),
        tell=lambda entries, done, fetched: channel.send_progress(Progress(entries, done, fetched)),
    )  # fmt: skip


def _damaged(copy: OpenCopy, damaged: list[Problem]) -> Damaged:
    """What was fetched so far stays, for another copy to complete."""
    shown = "; ".join(f"{one.path}: {one.reason}" for one in damaged[:_SHOWN])
    more = f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
    return Damaged(
        f"{copy.sidecar.snapshot} is not what its manifest says: {shown}{more}",
        f"Read it again where it is stored: `drbdbackup verify {copy.sidecar.snapshot}`.",
    )


def _sidecar(at: OpenTarget, copy: OpenCopy, replica: Replica, filled: Filled) -> Sidecar:
    """What snapshot.json says: all that is the snapshot's is as it was, the rest is this disk's."""
    problems = [*copy.sidecar.unread, *replica.problems]
    bases = (os.path.basename(os.path.dirname(base.data)) for base in replica.bases)
    return replace(
        copy.sidecar, finished_at=datetime.now(UTC), entries=filled.entries, manifest_sha256=filled.manifest_sha256,
        abilities=at.abilities.as_document(), problems=tuple(problems[:KEPT_PROBLEMS]),
        problem_count=copy.sidecar.unread_count + len(replica.problems),
        base=next((name for name in bases if not name.startswith(layout.PARTIAL)), ""),
        medium=at.identity.medium, target=at.medium.config.name, kind=at.medium.config.kind, holder=at.medium.holder,
        program=f"drbdbackup {__version__}", sha256="",
    )  # fmt: skip


def _have_it_noted(channel: Channel, at: OpenTarget, fresh: str, replica: Replica) -> None:
    """Who is killed between the name and the fact must know the next time that it is this."""
    copy = layout.copy_of(at.root, sidecar.read(fresh), at.medium.location)
    channel.send(ReplicaReady(
        copy=copy_body(copy), files=replica.files, bytes=replica.size, is_all=not replica.linked,
    ))  # fmt: skip
    channel.receive(Noted)
