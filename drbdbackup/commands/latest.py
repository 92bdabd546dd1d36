"""`latest`: the newest backup, wherever it is stored, as far as it can be known from this node within a moment.

It changes nothing but the catalog, which learns what came by the roads, and it touches no target's data.
"""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.catalog.unconfigured_resources import OtherResource, other_resources, without_backup
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NoBackup, NothingFound, Undecided
from drbdbackup.lineage import ONE_LINE, Lineage, Lineages, lineages
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from drbdbackup.pipeline.copies.known_copies import Heard, KnownCopy, fetch_catalogs, found, last_heard, undamaged


class Latest(Struct, frozen=True, kw_only=True):
    """What is known of one resource. `closed` says why nothing, or not everything, was learned by a road.

    `choice` are the copies of which the newest is asked for: all that live, or those of a lineage that was named.
    `others` are resources that are not configured, where nothing is known of this one.
    """

    resource: str
    copies: tuple[KnownCopy, ...]
    heard: tuple[Heard, ...]
    closed: dict[str, str]
    lines: Lineages = ONE_LINE
    choice: tuple[KnownCopy, ...] = ()
    others: tuple[OtherResource, ...] = ()

    @property
    def backup(self) -> KnownCopy | None:
        """The newest undamaged copy, reachable or not; None between rivals."""
        return None if self.undecided else undamaged(self.choice)

    @property
    def heads(self) -> tuple[tuple[Lineage, KnownCopy | None], ...]:
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
            return Undecided(f"{self.resource}: {undecided.message}", undecided.hint)
        if self.copies:
            return NothingFound(f"{self.resource}: every copy is damaged", "Make a new one: `drbdbackup run`.")
        return NoBackup(f"{self.resource}: no backup is known here", without_backup(self.others))


def latest(config: Config, resources: tuple[ResourceConfig, ...], lineage: str = "") -> tuple[Latest, ...]:
    """Try every road; what is known of each of `resources`. UsageError for a `lineage` that is not there."""
    exchange = fetch_catalogs(config, resources)
    heard = last_heard(config)
    return tuple(_of(config, one.name, exchange, heard, lineage) for one in resources)


def _of(
    config: Config, resource: str, exchange: ExchangeResult, heard: tuple[Heard, ...], lineage: str
) -> Latest:
    copies = found(config, resource, exchange)
    lines = lineages(one.copy for one in copies)
    chosen = lines.chosen((one.copy for one in copies), lineage)
    wanted = {(copy.medium, copy.snapshot) for copy in chosen}
    choice = tuple(one for one in copies if (one.copy.medium, one.copy.snapshot) in wanted)
    others = () if copies else other_resources(config)
    return Latest(
        resource=resource, copies=copies, heard=heard, closed=exchange.unread, lines=lines, choice=choice, others=others
    )
