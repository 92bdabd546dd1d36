"""`exposure`: what would be lost now with the volume, alone or with a node or a target, and what would be left.

It changes nothing but the catalog, which learns what came by the roads.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.catalog import rates
from drbdbackup.commands.latest import Latest, latest
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NothingFound
from drbdbackup.exposure import Known, Left, LossKind, Without, left, losses
from drbdbackup.lineage import Lineage
from drbdbackup.model.backup import Reach


class LineageExposure(Struct, frozen=True):
    """What is left in each case if `lineage` is the one that is kept; None where there is but one.

    `pairs` are the cases in which any two of the nodes and shares are gone.
    """

    lineage: Lineage | None
    cases: tuple[Left, ...]
    pairs: tuple[Left, ...] = ()


class Exposure(Struct, frozen=True, kw_only=True):
    """One resource. `missing` is why nothing at all is known; `roadless` are nodes whose disks nobody can read here.

    `closed` says why a road failed. `retired` are the places of copies that do not count: no node has that target in
    its configuration any more.
    """

    resource: str
    node: str
    lines: tuple[LineageExposure, ...]
    roadless: tuple[str, ...]
    closed: dict[str, str]
    missing: NothingFound | None
    retired: tuple[str, ...] = ()


def exposure(config: Config, resources: tuple[ResourceConfig, ...]) -> tuple[Exposure, ...]:
    """Try every road, then say what would be left of each of `resources`."""
    return tuple(_of(config, one) for one in latest(config, resources))


def _of(config: Config, known: Latest) -> Exposure:
    now, measured = datetime.now(UTC), rates.known(config.state_dir, known.resource)
    reach = {(one.copy.medium, one.copy.snapshot): one.reach for one in known.copies}
    copies = [one.copy for one in known.copies if not one.retired]
    lines = []
    for lineage in known.lines.rivals or (None,):
        chosen = known.lines.chosen(copies, lineage.generation if lineage else "")
        seen = [(copy, reach.get((copy.medium, copy.snapshot), Reach.UNKNOWN)) for copy in chosen]
        cases = Known(config.node, now, seen, measured)
        alone, pairs = (tuple(left(cases, without) for without in some) for some in (losses(config), _pairs(config)))
        lines.append(LineageExposure(lineage, alone, pairs))
    asked = {config.node, *(peer.node for peer in config.peers)}
    roadless = sorted({copy.holder for copy in copies if copy.holder} - asked)
    gone = tuple(sorted({one.copy.location for one in known.copies if one.retired}))
    missing = None if known.lines.rivals else known.missing
    return Exposure(
        resource=known.resource, node=config.node, lines=tuple(lines), roadless=tuple(roadless), closed=known.closed,
        missing=missing, retired=gone,
    )  # fmt: skip


def _pairs(config: Config) -> Iterator[Without]:
    """Any two nodes or shares at once; a node takes its own disks with it."""
    places = [one for one in losses(config) if one.kind is not LossKind.NOTHING and not one.holder]
    for one, other in combinations(places, 2):
        yield replace(one, also=other)
