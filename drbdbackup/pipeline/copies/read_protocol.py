"""The fields that every job has that reads a copy: which copy it is, and how to reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from drbdbackup.config.values import PeerConfig, TargetConfig
from drbdbackup.model.backup import Copy
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.protocol import CageJob, JobEvent


class OnMedium(Struct, frozen=True, tag_field="way", tag="medium"):
    """It lies on a target of this node. `expected`: see `TargetJob`."""

    target: TargetConfig
    expected: KnownMedium | None


class AtPeer(Struct, frozen=True, tag_field="way", tag="peer"):
    """It lies on a disk of another node, which calls that `target`; `document` is its sidecar.

    `ssh` is how many seconds it may take to reach that node. `takes_list`: it can send what a list names; an older one
    cannot.
    """

    peer: PeerConfig
    target: str
    document: dict[str, Any]
    ssh: float
    takes_list: bool


class CopyToRead(Struct, frozen=True, kw_only=True):
    """The copy and the way to it. `scratch` is a folder of the job's own.

    `patience` is how many seconds rsync may be silent. `manifests` has the SHA-256 of the manifest by snapshot, of this
    copy and the others on the medium that the job reads, as the nodes that made them have recorded it; `sidecars` that
    of what their sidecars say.
    """

    resource: str
    snapshot: str
    medium: str
    way: OnMedium | AtPeer
    scratch: str
    patience: float
    manifests: dict[str, str]
    sidecars: dict[str, str]

    @classmethod
    def of(
        cls, copy: Copy, way: OnMedium | AtPeer, scratch: str, patience: float, others: Sequence[Copy] = ()
    ) -> CopyToRead:
        """This copy, and `others` on the same medium, as the catalog knows them."""
        every = (copy, *others)
        return cls(
            resource=copy.resource, snapshot=copy.snapshot, medium=copy.medium, way=way, scratch=scratch,
            patience=patience,
            manifests={one.snapshot: one.manifest_sha256 for one in every if one.manifest_sha256},
            sidecars={one.snapshot: one.sidecar_sha256 for one in every if one.sidecar_sha256},
        )  # fmt: skip


class ReadJob(CageJob, frozen=True, kw_only=True):
    """Any job that reads a copy, or several on its medium."""

    copy: CopyToRead

    @property
    def own_folder(self) -> str:
        """Where its lists are."""
        return self.copy.scratch


class Unread(JobEvent, frozen=True):
    """One of several copies cannot be trusted, or (`is_gone`) is not there."""

    snapshot: str
    why: str
    is_gone: bool = False
