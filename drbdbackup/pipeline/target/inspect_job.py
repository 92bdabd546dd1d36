"""A look at a target, for `target list`, `target accept` and `sync --rebuild`: a caged job, as a target may hang.

It believes nothing and refuses nothing: what is there is reported with what speaks against it. It writes only where an
admin has said that this medium is to be the target (`accept`).
"""

from __future__ import annotations

import os

from drbdbackup.model.backup import iso
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.target.inspect_protocol import InspectJob, SidecarRead, TargetLook
from drbdbackup.pipeline.target.open_target import secluded
from drbdbackup.targets import abilities, identity, layout
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.medium import Medium
from drbdbackup.targets.sidecar import Sidecar


def do(job: InspectJob, channel: Channel) -> TargetLook:
    """Open the job's target and report what it is."""
    here = job.here
    with secluded(job.target, here, write=job.accept) as medium:
        sidecars = [one for resource in _resources(medium.root) for one in layout.snapshots(medium.root, resource)]
        mark = identity.accept(medium, here.node, _was(job, medium, sidecars)) if job.accept else medium.identity
        if job.sidecars:
            kept = [one for resource in _resources(medium.root) for one in layout.safety(medium.root, resource)]
            for one in (*sidecars, *kept):
                channel.send(SidecarRead(one.as_document()))
        return _look(medium, mark, job, _lacks(sidecars))


def _look(medium: Medium, mark: Identity | None, job: InspectJob, lacks: tuple[str, ...] | None) -> TargetLook:
    objection = "" if job.accept else identity.objection_to(medium, job.expected, job.here.node)
    space = os.statvfs(medium.root) if medium.engine is None else None
    return TargetLook(
        medium=mark.medium if mark else "", enrolled_at=iso(mark.enrolled_at) if mark else "",
        enrolled_by=mark.enrolled_by if mark else "",
        objection=objection or medium.mark_problem, filesystem_uuid=medium.filesystem_uuid, location=medium.location,
        holder=medium.holder, root=layout.home(medium.root),
        free_bytes=space.f_bavail * space.f_frsize if space else 0,
        total_bytes=space.f_blocks * space.f_frsize if space else 0, lacks=lacks if medium.engine is None else (),
    )  # fmt: skip


def _was(job: InspectJob, medium: Medium, sidecars: list[Sidecar]) -> str:
    """The medium that all snapshots on it say that they lie on, if it is the expected one: its mark was lost."""
    if job.expected is None or {one.medium for one in sidecars} != {job.expected.medium}:
        return ""
    is_another = medium.filesystem_uuid and job.expected.filesystem_uuid not in ("", medium.filesystem_uuid)
    return "" if is_another else job.expected.medium


def _resources(root: str) -> list[str]:
    """The folders that snapshots may lie in, of resources that the configuration has forgotten too."""
    try:
        with os.scandir(layout.home(root)) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    ours = os.path.basename(layout.catalogs(root))
    return sorted(name for name in names if name != ours and not name.startswith("."))


def _lacks(sidecars: list[Sidecar]) -> tuple[str, ...] | None:
    """What the last run found that it cannot hold: finding out anew would be writing to it."""
    if not sidecars:
        return None
    newest = max(sidecars, key=lambda one: (one.sequence, one.started_at))
    return tuple(abilities.from_document(newest.abilities).lacks())
