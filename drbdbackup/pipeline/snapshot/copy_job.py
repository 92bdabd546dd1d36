"""The caged job that makes one snapshot on one target: open, check, make, ask, publish, prune, pass the catalog on.

It publishes only when the supervisor says so, and it never decides which snapshots go. A copy that is held back
(the source was suspiciously small) is one more `.partial-`: never taken for a backup, linked from by the next run
(`--accept-shrink`), and never more than one of them on a target.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial

import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401  loaded once, for the copies of all targets
from msgspec.structs import replace

from drbdbackup import __version__
from drbdbackup.catalog import transfer
from drbdbackup.errors import Failure
from drbdbackup.manifest import SHORT
from drbdbackup.model.backup import is_snapshot_name
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.files.content import shows_holes
from drbdbackup.pipeline.files.page_cache import ReadOnce
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.snapshot import make_room
from drbdbackup.pipeline.snapshot.copy_files import CopySettings
from drbdbackup.pipeline.snapshot.copy_protocol import (
    CopyCounts,
    CopyJob,
    Done,
    Fetched,
    Finish,
    HoldBack,
    Opened,
    Publish,
    Published,
    Ready,
    Recycle,
    Recycling,
)
from drbdbackup.pipeline.snapshot.link_sources import (
    left_behind,
    make_tree,
    newest_base,
    note_abilities,
    note_whole,
    signed,
)
from drbdbackup.pipeline.snapshot.make import Made, make_snapshot
from drbdbackup.pipeline.snapshot.publish import publish
from drbdbackup.pipeline.snapshot.recycled_tree import UnusableTreeError, give_up, take
from drbdbackup.pipeline.snapshot.workspace import Workspace
from drbdbackup.pipeline.target import remove_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget, open_target
from drbdbackup.pipeline.target.published_snapshots import published
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.pipeline.volume.hole_quota import HoleQuota, SpoolHoleQuota, quota_where_read
from drbdbackup.scan import Spool, Totals
from drbdbackup.targets import layout
from drbdbackup.targets.sidecar import KEPT_PROBLEMS, MANIFEST, Sidecar


def do(job: CopyJob, channel: Channel) -> Done:
    """Make the snapshot that the job names; see `copy_protocol` for the conversation."""
    guard = guarded(job)
    with open_target(job.to_open, write=True, may_enrol=True) as at:
        there = published(at.medium, at.identity.medium, job.resource)
        channel.send(Opened(at.known_as, tuple(at.abilities.lacks()), guard.note, there.copies, there.names))
        if not at.abilities.hard_links or at.abilities.subvolumes:
            with channel.beating():
                # Nothing can be linked from what crashes left: it only takes room.
                remove_snapshots.sweep(at, job.to_open.removal)
        make_room.make_room(job, channel, at)
        name = layout.begin(at.root, job.resource, job.snapshot)
        fresh = layout.partial(at.root, job.resource, name)
        with make_room.cleared_when_full(fresh):
            try:
                workspace, spool, made = _made(job, channel, at, fresh, there.backups, guard.check)
            except UnusableTreeError:
                give_up(fresh)
                workspace, spool, made = _made(job, channel, at, fresh, there.backups, guard.check, may_recycle=False)
            note_whole(at.root, fresh, made.manifest_sha256, job.key)
            if not job.target.is_mounted_for_use:  # else it is unmounted soon, and nothing of it stays
                workspace.place.forget_written()
        guard.check()
        totals = spool.totals or Totals()
        channel.send(Ready(_counts(workspace), totals.files, totals.bytes, totals.allocated))
        answer: Publish | HoldBack = channel.receive(Publish, HoldBack)
        if isinstance(answer, HoldBack):
            return Done((hold_back(at, job, fresh),), at.room)
        new_sidecar = replace(
            _sidecar(job, at, workspace, spool, made, answer.sequence),
            snapshot=name, exclude=job.exclude,
            left_out=tuple(sorted(os.fsdecode(point) for point in guard.mountpoints)),
            generation=answer.generation, purpose=job.purpose,
            instant=job.lvm_snapshot.kind if job.lvm_snapshot else "",
        )  # fmt: skip
        with make_room.cleared_when_full(fresh):
            body = publish(at, fresh, new_sidecar, guard.check)
        channel.send(Published(body, new_sidecar.problems))
        _afterwards(job, channel, at)
        return Done(room=at.room)


def _made(
    job: CopyJob, channel: Channel, at: OpenTarget, fresh: str, backups: Sequence[Sidecar],
    check_source: Callable[[], None], *, may_recycle: bool = True,
) -> tuple[Workspace, Spool, Made]:  # fmt: skip
    """The copy in the folder `fresh`. Raises what ends it; UnusableTreeError only if it `may_recycle`."""
    with ExitStack() as stack:
        workspace = _workspace(job, channel, at, fresh, backups, stack, may_recycle=may_recycle)
        workspace.place.check_source = check_source
        spool = Spool(job.spool, job.patience)
        return workspace, spool, make_snapshot(workspace, spool)


def _workspace(
    job: CopyJob, channel: Channel, at: OpenTarget, fresh: str, backups: Sequence[Sidecar], stack: ExitStack, *,
    may_recycle: bool,
) -> Workspace:  # fmt: skip
    """Open the older copies, and the fresh tree: an empty folder, a clone of the newest one, or that of an old one."""
    can = at.abilities.as_document()
    newest = newest_base(at.root, backups, job.about, can, stack, job.scratch)
    bases = [newest] if newest else []
    recycling = may_recycle and newest is not None and _recycled(job, channel, at, fresh, backups, newest.data)
    note_abilities(fresh, can)
    data = layout.data(fresh)
    updating = not recycling and make_tree(data, newest, subvolumes=at.abilities.subvolumes)
    if not at.abilities.subvolumes:
        bases += left_behind(at.root, job.resource, fresh, can, stack, job.about, job.scratch)
    if not updating and (at.abilities.subvolumes or not at.abilities.hard_links):
        bases = []
    keeps_ns, shows = at.abilities.nanoseconds, shows_holes(fresh)
    place = CopySettings(
        source=job.source, data=data, scratch=job.scratch, holds=at.abilities.holds, nanoseconds=keeps_ns,
        clone=updating, rate=job.rate, reading=ReadOnce(job.positions, job.reader),
        hole_quota=HoleQuota(each_name=True) if shows else quota_where_read(each_name=True),
    )  # fmt: skip
    return Workspace(
        place=place, fresh=fresh,
        hole_quota=None if shows else SpoolHoleQuota(job.source, each_name=not at.abilities.hard_links),
        bases=bases, updating=updating, recycling=recycling, workers=at.link_workers,
        holdable=at.abilities.kinds, names=at.names, sign=lambda lines: signed(lines, job.key),
        on_progress=lambda entries, done, copied: channel.send_progress(Progress(entries, done, copied)),
    )  # fmt: skip


def _recycled(
    job: CopyJob, channel: Channel, at: OpenTarget, fresh: str, backups: Sequence[Sidecar], base: str
) -> bool:
    """Whether the folder `fresh` is now that of a snapshot which goes anyway. What holds something else is none."""
    if job.purpose or not at.recycles:
        return False
    can = at.abilities.as_document()
    alike = [one.snapshot for one in backups if dict(one.abilities) == can]
    channel.send(Recycling(os.path.basename(os.path.dirname(base)), tuple(alike)))
    answer = channel.receive(Recycle)
    at.check_still_there()
    with suppress(Failure):
        if answer.catalog:
            transfer.put(answer.catalog, layout.catalogs(at.root), job.here.node)
    is_held = partial(at.is_held, answer.snapshot)
    return bool(answer.snapshot) and take(at.root, job.resource, answer.snapshot, fresh, is_held)


def _counts(workspace: Workspace) -> CopyCounts:
    filled = workspace.filled
    return CopyCounts(
        workspace.seen, filled.entries, filled.bytes, filled.changed, filled.vanished, len(filled.problems)
    )


def _sidecar(
    job: CopyJob, at: OpenTarget, workspace: Workspace, spool: Spool, made: Made, sequence: int
) -> Sidecar:
    """What snapshot.json says."""
    problems = [*job.problems, *spool.problems, *workspace.filled.problems]
    problems.sort(key=lambda one: one.reason.startswith(SHORT))  # those last that cost nothing but that
    totals = spool.totals or Totals()
    return Sidecar(
        snapshot=job.snapshot, resource=job.resource, sequence=sequence, node=job.here.node, started_at=job.started_at,
        finished_at=datetime.now(UTC), files=totals.files, bytes=totals.bytes, entries=made.entries, manifest=MANIFEST,
        manifest_sha256=made.manifest_sha256, hash="xxh128", abilities=at.abilities.as_document(),
        problems=tuple(problems[:KEPT_PROBLEMS]), problem_count=len(problems), base=_base_name(workspace),
        medium=at.identity.medium, target=at.medium.config.name, kind=at.medium.config.kind, holder=at.medium.holder,
        program=f"drbdbackup {__version__}", allocated=totals.allocated,
    )  # fmt: skip


def _base_name(workspace: Workspace) -> str:
    names = [os.path.basename(os.path.dirname(base.data)) for base in workspace.bases]
    return next((name for name in names if is_snapshot_name(name)), "")


def _afterwards(job: CopyJob, channel: Channel, at: OpenTarget) -> None:
    """What crashes left goes; what retention drops goes; the catalogs are exchanged while the medium is here."""
    answer = channel.receive(Finish)
    at.check_still_there()
    with channel.beating():
        remove_snapshots.sweep(at, job.to_open.removal)
        remove_snapshots.drop(at, job.resource, answer.prune, channel)
    with suppress(Failure):
        catalogs = layout.catalogs(at.root)
        known = dict(job.about.known_files)
        if answer.catalog:
            known[f"{job.here.node}.db"] = transfer.put(answer.catalog, catalogs, job.here.node)
        fetched = transfer.fetch(catalogs, job.about.incoming, known, job.about.nodes)
        channel.send(Fetched(fetched))


def hold_back(at: OpenTarget, job: CopyJob, fresh: str) -> str:
    """Leave the copy in `fresh` as the only one held back; where it is, for people. Raises TargetError, OSError."""
    at.check_still_there()
    remove_snapshots.sweep(at, job.to_open.removal, but=fresh)
    return f"held back on {at.medium.location} as {os.path.relpath(fresh, at.root)}"
