"""`exposure`: what would be lost now with the volume, alone or with a node or a target, and what would be left.

It changes nothing but the catalog, which learns what came by the roads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from drbdbackup.catalog import rates
from drbdbackup.commands.latest import Latest, latest
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NothingFound
from drbdbackup.exposure import Kind, Known, Left, Without, left
from drbdbackup.lineage import Lineage
from drbdbackup.model.backup import Reach


@dataclass(frozen=True, slots=True)
class Line:
    """What is left in each case if `lineage` is the one that is kept; None where there is but one."""

    lineage: Lineage | None
    cases: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class Exposure:
    """One resource. `missing` is why nothing at all can be told; `roadless` are nodes whose disks nobody can read here.

    `closed` says why a road led nowhere.
    """

    resource: str
    node: str
    lines: tuple[Line, ...]
    roadless: tuple[str, ...]
    closed: dict[str, str]
    missing: NothingFound | None


def exposure(config: Config, resources: tuple[ResourceConfig, ...]) -> tuple[Exposure, ...]:
    """Try every road, then tell what would be left of each of `resources`."""
    return tuple(_of(config, one) for one in latest(config, resources))


def _of(config: Config, known: Latest) -> Exposure:
    now, measured = datetime.now(UTC), rates.known(config.state_dir, known.resource)
    reach = {(one.copy.medium, one.copy.snapshot): one.reach for one in known.copies}
    copies = [one.copy for one in known.copies]
    lines = []
    for lineage in known.lines.rivals or (None,):
        chosen = known.lines.chosen(copies, lineage.generation if lineage else "")
        seen = [(copy, reach.get((copy.medium, copy.snapshot), Reach.UNKNOWN)) for copy in chosen]
        cases = Known(config.node, now, seen, measured)
        lines.append(Line(lineage, tuple(left(cases, without) for without in _cases(config))))
    asked = {config.node, *(peer.node for peer in config.peers)}
    roadless = sorted({copy.holder for copy in copies if copy.holder} - asked)
    missing = None if known.lines.rivals else known.missing
    return Exposure(known.resource, config.node, tuple(lines), tuple(roadless), known.closed, missing)


def _cases(config: Config) -> Iterator[Without]:
    """The volume alone, each node (this one first), each share, and this node's disks."""
    yield Without(Kind.NOTHING)
    for node in sorted(config.nodes, key=lambda name: name != config.node):
        yield Without(Kind.NODE, node)
    for target in config.targets:
        yield Without(Kind.TARGET, target.name, config.node if target.kind == "disk" else "")
