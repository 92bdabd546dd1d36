"""A target as a caged job sees it: opened, verified to be the same medium as before, and what it can hold.

Nothing is written to a medium that was not recognised, but for the mark on one that is new.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup.catalog.free_space import LastRoom
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import NotMounted, ToolError
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.nosymfollow import without_symlinks
from drbdbackup.pipeline.cage.protocol import NodeFacts
from drbdbackup.pipeline.target import unfinished_snapshots
from drbdbackup.pipeline.target.copies_in_use import held_copies
from drbdbackup.pipeline.target.target_protocol import TargetJob
from drbdbackup.targets import abilities, identity, layout, removal, target
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.medium import Medium
from drbdbackup.targets.names import Names
from drbdbackup.tools import mount, mounts

SHARE_WORKERS = 8  # a round trip each: measured 8.6 s with one and 1.2 s with eight for 10,000 links at 0.3 ms
_NETWORK = ("nfs", "cifs", "smb", "fuse", "ceph", "9p", "glusterfs")


class OpenTarget(Struct, frozen=True):
    """An opened target. `held`: the folder that says which copies are being read."""

    medium: Medium
    identity: Identity
    abilities: Abilities
    device: int
    held: str

    @property
    def root(self) -> str:
        """The folder that holds `drbdbackup/`."""
        return self.medium.root

    @property
    def known_as(self) -> KnownMedium:
        """What the catalog remembers of it."""
        medium = self.medium
        return KnownMedium(self.identity.medium, medium.filesystem_uuid, medium.location, medium.config.kind)

    @property
    def names(self) -> Names | None:
        """Decides which names it can hold; None where it holds them all."""
        can = self.abilities
        return None if can.case_sensitive and can.any_name else Names(
            case_sensitive=can.case_sensitive, any_name=can.any_name
        )

    @property
    def recycles(self) -> bool:
        """Whether a copy may begin with the tree of an old one."""
        return self.medium.config.recycle and self.abilities.can_recycle

    @property
    def link_workers(self) -> int:
        """How many links to make at a time: each is a round trip on a share."""
        return SHARE_WORKERS if self.medium.fstype.startswith(_NETWORK) else 1

    def is_held(self, snapshot: str) -> bool:
        """Whether a restore of this node reads that copy now."""
        return (self.identity.medium, snapshot) in held_copies(self.held)

    @property
    def is_read(self) -> bool:
        """Whether a restore of this node reads any copy there now."""
        return any(medium == self.identity.medium for medium, _ in held_copies(self.held))

    @property
    def room(self) -> LastRoom | None:
        """What is free on it now; None where an engine keeps the copies: what is behind that nobody knows."""
        return None if self.medium.engine is not None else room_at(self.root, self.abilities)

    def check_still_there(self) -> None:
        """Look again before anything is published or removed. Raises NotMounted: it is only a path then."""
        with suppress(OSError):
            if os.stat(self.root).st_dev == self.device:
                return
        raise NotMounted(f"{self.medium.location} is not mounted any more", "Mount it; the next run copies again.")


def room_at(path: str, can: Abilities) -> LastRoom | None:
    """What is free now on the file system of `path`, which `can` hold that; None where it does not answer."""
    try:
        seen = os.statvfs(path)
    except OSError:
        return None
    return LastRoom(
        at=datetime.now(UTC), free=seen.f_bavail * seen.f_frsize, total=seen.f_blocks * seen.f_frsize,
        free_inodes=seen.f_favail if seen.f_files else None, links=can.hard_links,
    )  # fmt: skip


@contextmanager
def secluded(config: TargetConfig, here: NodeFacts, *, write: bool, resource: str = "") -> Iterator[Medium]:
    """Open a target so that nothing on it leads out of it; in a cage the kernel sees to that.

    A lazy unmount on the host cannot turn our path into its bare folder then, either. Raises TargetError, Unguarded.
    """
    with target(config, here.marks).opened(here.node, write=write) as medium:
        if here.caged:
            seen = mounts.mounted_at(mounts.table(), medium.root)
            if seen is None or seen.propagation or "nosymfollow" not in seen.options:
                is_mount = seen is not None
                if not without_symlinks(medium.root, lambda root: mount.seclude(root, is_mount=is_mount, write=write)):
                    with suppress(ToolError):  # the half of it that an older kernel or a container knows
                        mount.make_private(medium.root)
        layout.refuse_links(medium.root, resource)
        identity.refuse_known_as_other(medium, here.media)
        yield medium


@contextmanager
def open_target(job: TargetJob, *, write: bool, may_enrol: bool = False) -> Iterator[OpenTarget]:
    """Open the job's target; raises TargetError (NotMounted, WrongTarget) before anything is touched."""
    with secluded(job.target, job.here, write=write, resource=job.resource) as medium:
        found = identity.check(medium, job.expected, job.here.node, may_enrol=may_enrol)
        if may_enrol:
            identity.refuse_foreign(medium, job.nodes, job.ours)
        can = _probed(medium, job) if write else abilities.from_document({})
        yield OpenTarget(medium, found, can, os.stat(medium.root).st_dev, job.here.held)


def _probed(medium: Medium, job: TargetJob) -> Abilities:
    """What the medium can hold; an engine says that of itself. One that is full to the last byte cannot be tried.

    Then what crashes left goes first; if that does not do, it counts as what it was for its newest snapshot, so that
    retention may make room. Raises OSError.
    """
    root = medium.root
    if medium.engine is not None:
        return abilities.from_document(medium.engine.abilities)
    try:
        return abilities.probe(root, job.resource)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    folder = layout.resource_folder(root, job.resource)
    for left in unfinished_snapshots.removable(root, job.removal):
        removal.remove_tree(folder, os.fsencode(os.path.basename(left)))
    removal.sweep(folder)
    try:
        return abilities.probe(root, job.resource)
    except OSError as error:
        last = next(reversed(layout.snapshots(root, job.resource)), None)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or last is None:
            raise
        return abilities.from_document(last.abilities)
