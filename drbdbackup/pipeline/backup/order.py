"""What a session is to do and what was prepared for it, the jobs of its cages, and the result on each target.

Frozen, so that no step of a run can change what another one was told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup.catalog.signatures import own_key
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.backup import Copy
from drbdbackup.model.generation import Generation
from drbdbackup.model.mount import Mount
from drbdbackup.model.problem import Problem
from drbdbackup.model.role import Verdict
from drbdbackup.pipeline.backup.hooks import Hooks
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.snapshot.copy_protocol import CopyJob, TargetFacts
from drbdbackup.pipeline.volume.guard import identity
from drbdbackup.pipeline.volume.lvm_snapshot import LvmSnapshot
from drbdbackup.pipeline.volume.source_protocol import WalkJob


class TargetResult(Struct, frozen=True, kw_only=True):
    """How a run ended on one target: `copy` if a snapshot was published, `error` if not; `notes` are shown.

    `recycled` is the old snapshot whose tree became that of the copy, or would, in a dry run; "" for none. `missing`
    are the snapshots that were there, and of which nobody has recorded that they were pruned.

    `done` is what its process said of itself at the end. Without that word, or an error, nobody knows how it ended.
    """

    name: str
    copy: Copy | None = None
    error: DrbdBackupError | None = None
    done: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    pruned: tuple[str, ...] = ()
    recycled: str = ""
    missing: tuple[str, ...] = ()


class Order(Struct, frozen=True, kw_only=True):
    """What a session is to do. `judge` asks the gate again; `pass_on` publishes our catalog and names the file.

    `generation` asks DRBD which generation of its data this is. `purpose` "safety" makes no backup but what a restore
    in place keeps: it makes no room by removing copies, and neither a small nor a damaged source prevents it.
    """

    config: Config
    resource: ResourceConfig
    targets: Sequence[TargetConfig]
    snapshot: str
    started_at: datetime
    judge: Callable[[], Verdict]
    pass_on: Callable[[], str]
    watcher: Watcher
    dry_run: bool = False
    accept_shrink: bool = False
    generation: Callable[[], Generation | None] = lambda: None
    purpose: str = ""

    def coming(self, target: TargetConfig, medium: str, sequence: int) -> Copy:
        """The copy on a target as it will be, as far as that is known before it is made."""
        return Copy(
            snapshot=self.snapshot, resource=self.resource.name, sequence=sequence, node=self.config.node,
            target=target.name, kind=target.kind, medium=medium, location="", holder="", path="/",
            started_at=self.started_at, finished_at=self.started_at, files=0, bytes=0,
        )  # fmt: skip


class Prepared(Struct, frozen=True, kw_only=True):
    """What hooks, databases and LVM add to an order before its session works.

    `hooks` are those of targets, by name. `problems` are of dumps, and become the snapshot's. The walk and
    the copies read `lvm_snapshot` in place of the volume, if there is one; `note` says with every target why not.
    """

    hooks: Mapping[str, Hooks] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    lvm_snapshot: LvmSnapshot | None = None
    note: str = ""


def make_walk_job(order: Order, lvm_snapshot: LvmSnapshot | None, mounted: Mount | None, scratch: str) -> WalkJob:
    """The job of the walk; `mounted` is what is at the source."""
    return WalkJob(
        here=node_facts(order.config), source=_source(order, lvm_snapshot), mounted=identity(mounted),
        lvm_snapshot=lvm_snapshot.to_mount if lvm_snapshot else None, exclude=order.resource.exclude,
        spool=_spool(scratch), tells_left_out=not order.dry_run and any(not one.has_tree for one in order.targets),
    )  # fmt: skip


def make_copy_job(
    order: Order, prepared: Prepared, target: TargetConfig, about: TargetFacts, mounted: Mount | None, scratch: str
) -> CopyJob:
    """The job of the copy to one target; `mounted` is what is at the source."""
    return CopyJob(
        here=node_facts(order.config), source=_source(order, prepared.lvm_snapshot), mounted=identity(mounted),
        lvm_snapshot=prepared.lvm_snapshot.to_mount if prepared.lvm_snapshot else None,
        resource=order.resource.name, snapshot=order.snapshot, started_at=order.started_at.replace(microsecond=0),
        target=replace(target, hooks=()), exclude=order.resource.exclude, about=about,
        spool=_spool(scratch), patience=order.config.limits.stall, scratch=os.path.join(scratch, target.name),
        problems=tuple(prepared.problems), purpose=order.purpose,
        key=own_key(order.config.state_dir, order.config.node),
        rate=0 if order.purpose else int(order.config.limits.rate / len(order.targets)),
        positions=positions(scratch), reader=order.targets.index(target),
    )  # fmt: skip


def _source(order: Order, lvm_snapshot: LvmSnapshot | None) -> str:
    """A job that reads a snapshot does not use the volume."""
    return lvm_snapshot.at if lvm_snapshot else order.resource.source


def positions(scratch: str) -> str:
    """The file by which the copies know how far each is."""
    return os.path.join(scratch, "positions")


def _spool(scratch: str) -> str:
    return os.path.join(scratch, "spool")
