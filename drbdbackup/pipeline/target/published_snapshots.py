"""What is published of a resource on a target, read when a job has opened it: the supervisor decides by that.

It only reads, and does not believe a sidecar where its copy lies.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog.bodies import copy_body
from drbdbackup.targets import layout
from drbdbackup.targets.medium import Medium
from drbdbackup.targets.sidecar import Sidecar


class PublishedSnapshots(Struct, frozen=True):
    """The sidecars of the `backups`, oldest first; these and what restores kept as `copies`, which are bodies of facts.

    `names` are those of all folders, also of what has no readable sidecar.
    """

    backups: list[Sidecar]
    copies: tuple[dict[str, Any], ...]
    names: tuple[str, ...]


def published(there: Medium, medium: str, resource: str) -> PublishedSnapshots:
    """What lies on the medium of this name, "" for one that is not marked. Raises OSError where that cannot be read."""
    backups = layout.snapshots(there.root, resource)
    copies = [_body(there, medium, one) for one in (*backups, *layout.safety(there.root, resource))]
    return PublishedSnapshots(backups, tuple(copies), tuple(layout.names(there.root, resource)))


def _body(there: Medium, medium: str, sidecar: Sidecar) -> dict[str, Any]:
    copy, config = layout.copy_of(there.root, sidecar, there.location), there.config
    return copy_body(replace(copy, medium=medium, target=config.name, kind=config.kind, holder=there.holder))
