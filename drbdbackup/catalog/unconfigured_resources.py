"""Snapshots of resources that are not configured, mostly of one that was renamed. Nothing prunes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from drbdbackup.catalog.local import rows
from drbdbackup.config.values import Config
from drbdbackup.errors import NoBackup


class OtherResource(Struct, frozen=True):
    """One that still has `snapshots`."""

    name: str
    snapshots: int

    @property
    def described(self) -> str:
        """What there is, in words."""
        return f"{self.snapshots} snapshot{'s' * (self.snapshots != 1)} of {self.name}, which is not configured"

    @property
    def way(self) -> str:
        """How to list and restore them."""
        return f"To use them, put [resource.{self.name}] into a copy of the configuration, and name that with --config."


def other_resources(config: Config) -> tuple[OtherResource, ...]:
    """All that are known here, by name. Raises CatalogError."""
    names: dict[str, set[str]] = {}
    for name, copy in rows(config.state_dir, "SELECT resource, subject FROM standing WHERE pruned = 0"):
        names.setdefault(str(name), set()).add(str(copy).rpartition("/")[2])
    ours = {resource.name for resource in config.resources}
    return tuple(OtherResource(name, len(names[name])) for name in sorted(names.keys() - ours))


def without_backup(others: Iterable[OtherResource], unread: Mapping[str, str] = MappingProxyType({})) -> str:
    """The hint where no backup is known: it may belong to another name, or to a target or node that was not read.

    `unread` has the reason for each of these.
    """
    not_read = (f"Not read: {where}: {why}" for where, why in unread.items())
    return "\n".join((NoBackup.rebuilds, *(f"Also known: {one.described}. {one.way}" for one in others), *not_read))
