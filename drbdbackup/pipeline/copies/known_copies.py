"""What is known of copies within a moment: what came by every road, and which copies can be read from here.

It never opens a copy, and waits for no road longer than its deadline.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.lineage import Lineage, lineages
from drbdbackup.model.backup import Copy, Reach
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from drbdbackup.pipeline.copies import retired_targets


class KnownCopy(Struct, frozen=True):
    """A copy, whether it can be read from here, and its lineage where there are several: rivals, or discarded.

    It is `retired` if no node has its target in its configuration any more.
    """

    copy: Copy
    reach: Reach
    line: Lineage | None = None
    retired: bool = False

    @property
    def is_discarded(self) -> bool:
        """Whether DRBD threw away what it holds."""
        return self.line is not None and self.line.discarded


class Heard(Struct, frozen=True):
    """When a node was last heard of and by which road; this node itself by "local", one never heard of by ""."""

    node: str
    seen_at: datetime | None
    road: str


def fetch_catalogs(config: Config, resources: tuple[ResourceConfig, ...]) -> ExchangeResult:
    """What the other nodes left on every road, in a moment; it says which roads failed, and why."""
    one = resources[0] if len(resources) == 1 else None
    return catalog_exchange.fetch_all(config, one, _patience(config))


def found(config: Config, resource: str, exchange: ExchangeResult, *, safety: bool = False) -> tuple[KnownCopy, ...]:
    """Every backup that is known, newest first, with whether it can be read from here; with `safety` also what restores
    in place have kept.
    """
    copies = view.configured(config, resource, adopted=True)
    lines = lineages(copies)
    if safety:
        copies = view.newest_first([*copies, *view.configured_safety(config, resource)])
    reach = catalog_exchange.reach(config, copies, exchange, _patience(config))
    is_retired = retired_targets.retired(config)
    return tuple(
        KnownCopy(copy, reach.get((copy.medium, copy.snapshot), Reach.UNKNOWN), lines.of(copy), is_retired(copy))
        for copy in copies
    )


def living(copies: tuple[KnownCopy, ...]) -> tuple[KnownCopy, ...]:
    """Those that no discarded lineage made."""
    return tuple(one for one in copies if not one.is_discarded)


def undamaged(copies: tuple[KnownCopy, ...]) -> KnownCopy | None:
    """The newest backup, whether or not it can be read from here: not damaged; if there is another, neither adopted
    nor on a retired target.
    """
    whole = [found for found in copies if found.copy.damaged_at is None]
    whole = [found for found in whole if not found.copy.adopted] or whole
    whole = [found for found in whole if not found.retired] or whole
    return whole[0] if whole else None


def newer_retired(copies: tuple[KnownCopy, ...], chosen: KnownCopy | None) -> KnownCopy | None:
    """The newest backup that is passed over for `chosen` only because its target is retired."""
    known = {(one.copy.medium, one.copy.snapshot): one for one in copies if one.retired}
    found = chosen and retired_targets.newer((one.copy for one in known.values()), chosen.copy, lambda _: True)
    return known[found.medium, found.snapshot] if found else None


def last_heard(config: Config) -> tuple[Heard, ...]:
    """When each node was last heard of: those of the configuration first, then whoever else left a catalog."""
    seen = view.seen(config.state_dir)
    others = [node for node in seen if node not in config.nodes]
    return tuple(_heard(config, node, seen.get(node)) for node in (*config.nodes, *others))


def _patience(config: Config) -> float:
    """Seconds for all roads, and for a look at the targets: whoever waits for an answer sits at a terminal."""
    return min(config.limits.answer, config.limits.probe)


def _heard(config: Config, node: str, seen: view.SeenCatalog | None) -> Heard:
    if node == config.node:
        return Heard(node, datetime.now(UTC), "local")
    return Heard(node, seen.seen_at, seen.road) if seen else Heard(node, None, "")
