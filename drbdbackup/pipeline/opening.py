"""A target as a caged job sees it: opened, known to be the one that it was, and what it can hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from drbdbackup.config.values import Retention, TargetConfig
from drbdbackup.errors import NotMounted, ToolError
from drbdbackup.pipeline import leftovers
from drbdbackup.pipeline.link import SHARE_WORKERS
from drbdbackup.pipeline.names import Names
from drbdbackup.targets import abilities, identity, layout, removal, target
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.mark import Identity
from drbdbackup.targets.medium import Medium
from drbdbackup.tools import mount, mounts
from drbdbackup.tools.rsync import Holds

_NETWORK = ("nfs", "cifs", "smb", "fuse", "ceph", "9p", "glusterfs")


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened target."""

    medium: Medium
    identity: Identity
    abilities: Abilities
    device: int

    @property
    def root(self) -> str:
        """The folder that holds `drbdbackup/`."""
        return self.medium.root

    @property
    def document(self) -> dict[str, str]:
        """What the catalog remembers of it: the body of its "target" fact."""
        medium = self.medium
        return {
            "medium": self.identity.medium, "filesystem_uuid": medium.filesystem_uuid, "location": medium.location,
            "kind": medium.config.kind,
        }  # fmt: skip

    @property
    def holds(self) -> Holds:
        """What rsync may give to it."""
        can = self.abilities
        return Holds(can.owners, can.modes, can.acls, can.xattrs, can.symlinks, can.devices, can.fifo, can.hard_links)

    @property
    def holdable(self) -> bytes:
        """The types of entries that have a place on it; the others are in the manifest only."""
        can = self.abilities
        kinds = b"fd" + (b"l" if can.symlinks else b"") + (b"bc" if can.devices else b"")
        return kinds + (b"ps" if can.fifo else b"")

    @property
    def names(self) -> Names | None:
        """Decides which names it can hold; None where it holds them all."""
        can = self.abilities
        return None if can.case_sensitive and can.any_name else Names(can.case_sensitive, can.any_name)

    @property
    def link_workers(self) -> int:
        """How many links to make at a time: each is a round trip on a share."""
        return SHARE_WORKERS if self.medium.fstype.startswith(_NETWORK) else 1

    def check_still_there(self) -> None:
        """Look again before anything is published or removed: an unmounted path is not the target."""
        with suppress(OSError):
            if os.stat(self.root).st_dev == self.device:
                return
        raise NotMounted(f"{self.medium.location} is not mounted any more", "Mount it; the next run copies again.")


@contextmanager
def opened(job: dict[str, Any], *, write: bool, may_enrol: bool = False) -> Iterator[Opened]:
    """Open the job's target; raises TargetError (NotMounted, WrongTarget) before anything is touched."""
    config = target_config(job["target"])
    with target(config, job["marks"]).opened(job["node"], write=write) as medium:
        seen = mounts.mounted_at(mounts.table(), medium.root)
        if job["caged"] and seen is not None and seen.propagation:
            with suppress(ToolError):  # so that a lazy unmount on the host cannot turn our path into its bare folder
                mount.make_private(medium.root)
        found = identity.check(medium, job["expected"], job["node"], may_enrol)
        if may_enrol:
            identity.refuse_foreign(medium, job["nodes"], job["ours"])
        can = _probed(medium.root, job) if write else abilities.from_document({})
        yield Opened(medium, found, can, os.stat(medium.root).st_dev)


def _probed(root: str, job: dict[str, Any]) -> Abilities:
    """What the medium can hold. One that is full to the last byte cannot be tried.

    Then what crashes left goes first; if that does not do, it counts as what it was for its newest snapshot, so that
    retention may make room. Raises OSError.
    """
    try:
        return abilities.probe(root)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    folder = layout.resource_folder(root, job["resource"])
    for left in leftovers.removable(root, job):
        removal.remove_tree(folder, os.fsencode(os.path.basename(left)))
    removal.sweep(folder)
    try:
        return abilities.probe(root)
    except OSError as error:
        last = next(reversed(layout.snapshots(root, job["resource"])), None)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or last is None:
            raise
        return abilities.from_document(last.abilities)


def target_config(document: dict[str, Any]) -> TargetConfig:
    """The inverse of `dataclasses.asdict`; hooks are the supervisor's."""
    return TargetConfig(**{**document, "retention": Retention(**document["retention"]), "hooks": ()})
