"""What a run writes into the catalog, and what it looks up there to decide: the books of one resource on this node.

Only what happened is written, when it has happened; what lies on a medium is believed before what the catalog says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from drbdbackup.catalog import bodies, exchange, rates, store, view
from drbdbackup.catalog.facts import Fact
from drbdbackup.catalog.rates import Work
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import TargetError
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import leftovers
from drbdbackup.pipeline.roads import subject
from drbdbackup.retention import FROZEN, safety
from drbdbackup.retention import plan as judge


class Ledger:
    """The books of one resource."""

    def __init__(self, config: Config, resource: ResourceConfig) -> None:
        """Opens nothing; each entry is one transaction."""
        self._config = config
        self._resource = resource.name
        self._known: dict[str, frozenset[tuple[str, str]]] = {}

    def highest_sequence(self) -> int:
        """The highest sequence that any snapshot of the resource was ever known to have."""
        return view.highest_sequence(self._config.state_dir, self._resource)

    def last_complete(self) -> Copy | None:
        """The newest undamaged copy that lacks no file (else the newest at all), of a lineage that lives."""
        copies = self._copies()
        living = lineages(copies).chosen(copies, "")
        sound = [copy for copy in living if not copy.damaged_at]
        return next((copy for copy in sound if not copy.problems), next(iter(sound), None))

    def about(self, target: TargetConfig) -> dict[str, Any]:
        """What a copy job is to know of its target."""
        state, nodes = self._config.state_dir, self._config.nodes
        copies, named = self._copies(), subject(target, self._config.node)
        known = [copy for copy in copies if copy.target == target.name]
        self._known[target.name] = frozenset((copy.medium, copy.snapshot) for copy in (*copies, *self._safety()))
        return {
            "expected": view.expected_target(state, named), **trusted(known),
            "nodes": list(nodes), "ours": sorted(view.ours(state, named, nodes)),
            "incoming": exchange.incoming_folder(state, target.name),
            "known_files": view.known_files(state, target.name), "over": leftovers.known_to_be_over(self._config),
        }  # fmt: skip

    def opened(
        self, target: TargetConfig, medium: dict[str, str], there: Iterable[Copy], names: Collection[str]
    ) -> None:
        """What lies on a medium and what is known of it are made one.

        A crash may come between a snapshot and its fact, or between a mark and its fact; and an admin may remove a
        snapshot by hand. `there` are the copies with a readable sidecar, `names` those of all snapshots' folders. Only
        what was known before its target was told to look can have gone: what another process takes in meanwhile of
        another node may have been published after the look, and that a copy is gone is never taken back.
        """
        node, now = self._config.node, datetime.now(UTC)
        named = subject(target, node)
        new: list[Fact] = []
        if view.expected_target(self._config.state_dir, named) is None:
            new.append(bodies.expected(node, now, named, medium))
        known = view.known_subjects(self._config.state_dir)
        new += [bodies.copied(node, now, copy) for copy in there if bodies.subject_of(copy) not in known]
        for copy in (*self._copies(), *self._safety()):
            is_known = (copy.medium, copy.snapshot) in self._known.get(target.name, ())
            if is_known and copy.medium == medium["medium"] and copy.snapshot not in names:
                new.append(bodies.pruned(node, now, copy, "it is not there any more"))
        self._record(new)

    def published(self, body: dict[str, Any], counts: Mapping[str, int]) -> Copy:
        """A snapshot is there, whole: a fact; so is how long the `copied` files of `copied_bytes` took."""
        copy = bodies.copy_from(body)
        if copy is None:
            raise TargetError("the new snapshot's record makes no sense")
        now = datetime.now(UTC)
        took = (now - copy.started_at).total_seconds()
        self._record([
            bodies.copied(self._config.node, now, copy),
            *rates.measured(self._config.node, copy, Work.COPIED, counts["copied"], counts["copied_bytes"], took),
        ])
        return copy

    def to_drop(self, target: TargetConfig, medium: str) -> list[tuple[str, str]]:
        """The snapshots on a medium that no rule keeps, with the reason."""
        copies = self._copies()
        known = [copy for copy in copies if copy.medium == medium]
        now, lines = datetime.now(UTC), lineages(copies)
        kept = [copy for copy in self._safety() if copy.medium == medium]
        judged = (*judge(known, target.retention, now, lines=lines), *safety(kept, known, now, lines))
        return [(one.copy.snapshot, one.reason) for one in judged if not one.keep]

    def why_frozen(self) -> list[str]:
        """Why nothing is dropped at all, for a run's notes."""
        return [FROZEN] if lineages(self._copies()).rivals else []

    def pruned(self, medium: str, snapshot: str, reason: str) -> None:
        """A snapshot is gone."""
        now = datetime.now(UTC)
        every = (*self._copies(), *self._safety())
        gone = [copy for copy in every if (copy.medium, copy.snapshot) == (medium, snapshot)]
        self._record([bodies.pruned(self._config.node, now, copy, reason) for copy in gone])

    def take_in(self, road: str, stamps: dict[str, list[int]]) -> None:
        """Catalogs that a copy job found on its medium."""
        state = self._config.state_dir
        exchange.take_in(state, road, exchange.incoming_folder(state, road), stamps)

    def _copies(self) -> list[Copy]:
        return view.copies(self._config.state_dir, self._resource, ())

    def _safety(self) -> list[Copy]:
        return view.safety(self._config.state_dir, self._resource)

    def _record(self, facts: list[Fact]) -> None:
        if facts:
            store.record(self._config.state_dir, self._config.node, facts)


def trusted(known: Sequence[Copy]) -> dict[str, list[str]]:
    """Of the copies on a target, those found damaged, and those found well after the last damage was found."""
    damage = [copy.damaged_at for copy in known if copy.damaged_at]
    well = [copy for copy in known if copy.verified_at and (not damage or copy.verified_at > max(damage))]
    return {
        "damaged": [copy.snapshot for copy in known if copy.damaged_at], "verified": [copy.snapshot for copy in well],
    }  # fmt: skip
