"""`latest`: the newest backup, wherever it lies, as far as it can be known from this node within a moment.

It changes nothing but the catalog, which learns what came by the roads, and it touches no target's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NothingFound
from drbdbackup.lineage import ONE_LINE, Lineage, Lineages, lineages
from drbdbackup.model.backup import Copy, Reach
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.roads import Travelled

PATIENCE = 2.0  # seconds for all roads, and for a look at the targets: whoever waits for an answer sits at a terminal


@dataclass(frozen=True, slots=True)
class Found:
    """A copy, whether it can be read from here, and its lineage where there are several: rivals, or discarded."""

    copy: Copy
    reach: Reach
    line: Lineage | None = None

    @property
    def is_discarded(self) -> bool:
        """Whether DRBD threw away what it holds."""
        return self.line is not None and self.line.discarded


@dataclass(frozen=True, slots=True)
class Heard:
    """When a node was last heard of and by which road; this node itself by "local", one never heard of by ""."""

    node: str
    seen_at: datetime | None
    road: str


@dataclass(frozen=True, slots=True)
class Latest:
    """What is known of one resource. `closed` says why a road led nowhere.

    `choice` are the copies of which the newest is asked for: all that live, or those of a lineage that was named.
    """

    resource: str
    copies: tuple[Found, ...]
    heard: tuple[Heard, ...]
    closed: dict[str, str]
    lines: Lineages = ONE_LINE
    choice: tuple[Found, ...] = ()

    @property
    def backup(self) -> Found | None:
        """The newest undamaged copy, reachable or not; None between rivals."""
        return None if self.undecided else undamaged(self.choice)

    @property
    def heads(self) -> tuple[tuple[Lineage, Found | None], ...]:
        """Each lineage, rivals first, with its newest undamaged copy."""
        every = (*self.lines.rivals, *self.lines.discarded)
        return tuple((line, undamaged(tuple(one for one in self.copies if one.line == line))) for line in every)

    @property
    def undecided(self) -> NothingFound | None:
        """Why there is no one newest backup."""
        return self.lines.undecided([one.copy for one in self.choice])

    @property
    def missing(self) -> NothingFound | None:
        """The error that stands for no backup at all."""
        if self.backup is not None:
            return None
        if (undecided := self.undecided) is not None:
            return NothingFound(f"{self.resource}: {undecided.message}", undecided.hint)
        if self.copies:
            return NothingFound(f"{self.resource}: every copy is damaged", "Make a new one: `drbdbackup run`.")
        hint = "Make one with `drbdbackup run`, or look with `drbdbackup sync`."
        return NothingFound(f"{self.resource}: no backup is known here", hint)


def latest(config: Config, resources: tuple[ResourceConfig, ...], lineage: str = "") -> tuple[Latest, ...]:
    """Try every road, then tell what is known of each of `resources`. UsageError for a `lineage` that is not there."""
    travelled = take_in(config, resources)
    heard = last_heard(config)
    return tuple(_of(config, one.name, travelled, heard, lineage) for one in resources)


def take_in(config: Config, resources: tuple[ResourceConfig, ...]) -> Travelled:
    """What the other nodes left on every road, in a moment; it says which roads led nowhere, and why."""
    one = resources[0] if len(resources) == 1 else None
    return roads.fetch_all(config, one, _patience(config))


def found(config: Config, resource: str, travelled: Travelled, *, safety: bool = False) -> tuple[Found, ...]:
    """Every backup that is known, newest first, with whether it can be read from here; with `safety` also what restores
    in place have kept.
    """
    targets = [target.name for target in config.targets]
    copies = view.copies(config.state_dir, resource, targets)
    lines = lineages(copies)
    if safety:
        copies = view.newest_first([*copies, *view.safety(config.state_dir, resource, targets)])
    reach = roads.reach(config, copies, travelled, _patience(config))
    return tuple(
        Found(copy, reach.get((copy.medium, copy.snapshot), Reach.UNKNOWN), lines.of(copy)) for copy in copies
    )


def living(copies: tuple[Found, ...]) -> tuple[Found, ...]:
    """Those that no discarded lineage made."""
    return tuple(one for one in copies if not one.is_discarded)


def undamaged(copies: tuple[Found, ...]) -> Found | None:
    """The first that is not damaged: the newest backup, whether or not it can be read from here."""
    return next((found for found in copies if found.copy.damaged_at is None), None)


def last_heard(config: Config) -> tuple[Heard, ...]:
    """When each node was last heard of: those of the configuration first, then whoever else left a catalog."""
    seen = view.seen(config.state_dir)
    others = [node for node in seen if node not in config.nodes]
    return tuple(_heard(config, node, seen.get(node)) for node in (*config.nodes, *others))


def _of(
    config: Config, resource: str, travelled: Travelled, heard: tuple[Heard, ...], lineage: str
) -> Latest:
    copies = found(config, resource, travelled)
    lines = lineages(one.copy for one in copies)
    chosen = lines.chosen((one.copy for one in copies), lineage)
    wanted = {(copy.medium, copy.snapshot) for copy in chosen}
    choice = tuple(one for one in copies if (one.copy.medium, one.copy.snapshot) in wanted)
    return Latest(resource, copies, heard, travelled.closed, lines, choice)


def _patience(config: Config) -> float:
    return min(PATIENCE, config.limits.probe)


def _heard(config: Config, node: str, seen: view.Seen | None) -> Heard:
    if node == config.node:
        return Heard(node, datetime.now(UTC), "local")
    return Heard(node, seen.seen_at, seen.road) if seen else Heard(node, None, "")
