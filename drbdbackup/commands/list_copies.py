"""`list`: every snapshot that is known, with its copies, of all nodes on all targets.

It fetches catalogs first, and never reads the copies themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Struct

from drbdbackup.catalog.unconfigured_resources import OtherResource, other_resources, without_backup
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NoBackup, NothingFound, UsageError
from drbdbackup.pipeline.copies.known_copies import KnownCopy, fetch_catalogs, found


class ListFilter(Struct, frozen=True, kw_only=True):
    """Which snapshots are wanted: made since then (aware) by that node, with copies on these targets, so many of the
    newest. None, "", () and 0 are for all.
    """

    since: datetime | None = None
    node: str = ""
    targets: tuple[str, ...] = ()
    limit: int = 0


EVERYTHING = ListFilter()


class Listed(Struct, frozen=True):
    """Snapshots, each with the copies of it that are wanted, newest first by resource; `more` were over the limit.

    `others` are resources that are not configured.
    """

    snapshots: tuple[tuple[KnownCopy, ...], ...]
    more: int = 0
    others: tuple[OtherResource, ...] = ()

    @property
    def copies(self) -> tuple[KnownCopy, ...]:
        """The copies of all of them."""
        return tuple(one for copies in self.snapshots for one in copies)


def listing(config: Config, resources: tuple[ResourceConfig, ...], wanted: ListFilter = EVERYTHING) -> Listed:
    """What is known, and what restores in place have kept. The limit is for each resource.

    Raises NothingFound if there is none, UsageError for a node or a target that nobody has heard of.
    """
    exchange = fetch_catalogs(config, resources)
    known = [found(config, resource.name, exchange, safety=True) for resource in resources]
    every = [one for copies in known for one in copies]
    _check("--node", [wanted.node] if wanted.node else [], {*config.nodes, *(one.copy.node for one in every)})
    places = {*(one.name for one in config.targets), *(one.copy.target for one in every)}
    _check("--target", wanted.targets, places)
    if not every:
        raise NoBackup("no backup is known here", without_backup(other_resources(config), exchange.unread))
    snapshots = [_matching(copies, wanted) for copies in known]
    if not any(snapshots):
        raise NothingFound("no snapshot matches", "`drbdbackup list` shows all that there are.")
    shown = [tuple(some[: wanted.limit or None]) for some in snapshots]
    listed = tuple(one for some in shown for one in some)
    return Listed(listed, sum(map(len, snapshots)) - len(listed), other_resources(config))


def _matching(copies: Sequence[KnownCopy], wanted: ListFilter) -> list[tuple[KnownCopy, ...]]:
    """The copies that are wanted, by snapshot, in the order that they come in."""
    by_snapshot: dict[str, list[KnownCopy]] = {}
    for one in copies:
        copy = one.copy
        is_since = wanted.since is None or copy.started_at >= wanted.since
        if is_since and wanted.node in ("", copy.node) and (not wanted.targets or copy.target in wanted.targets):
            by_snapshot.setdefault(copy.snapshot, []).append(one)
    return [tuple(same) for same in by_snapshot.values()]


def _check(option: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{option} {name}: there is none of that name", f"Allowed: {', '.join(sorted(known))}.")
