"""`sync`: exchange catalogs on every road now; with --rebuild, gather a lost catalog anew from the media.

A rebuild invents nothing: what the other nodes know comes first, so that what was pruned and is not there stays
pruned.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup import gate, lock
from drbdbackup.catalog import bodies, kept_configurations, merge, publish, store, view
from drbdbackup.catalog.bodies import subject
from drbdbackup.catalog.rebuild import SidecarMedium, copies_from_sidecars
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import CatalogError, DrbdBackupError, Failure, PartialResult
from drbdbackup.lock import lock_file
from drbdbackup.model.role import Decision
from drbdbackup.pair import digests
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.catalog_exchange import ExchangeResult
from drbdbackup.pipeline.target.inspect_protocol import INSPECT, SidecarRead
from drbdbackup.pipeline.target.inspect_target import LOOK, inspection


class Regained(Struct, frozen=True):
    """What a rebuild found on one target: copies that the catalog did not know, or why it could not be read.

    `is_new`: a disk of this node that is not marked, and no run has used one yet.
    """

    target: str
    copies: int = 0
    is_new: bool = False
    error: DrbdBackupError | None = None


class Synced(Struct, frozen=True):
    """What came, what went, and what a rebuild did: where the broken catalog is now, and what each medium had.

    `expected` are the roads that should be open: shares and peers. The replicated volume does not count: on a Secondary
    it is always closed.
    """

    came: ExchangeResult
    went: ExchangeResult
    expected: frozenset[str]
    aside: str | None = None
    regained: tuple[Regained, ...] = ()

    @property
    def status(self) -> int:
        """1 if no road could be reached, partial if one could not, or something else was amiss."""
        if self.expected and self.expected <= self.came.closed.keys():
            return DrbdBackupError.status
        closed = self.expected & {*self.came.closed, *self.went.closed}
        amiss = closed or self.came.refused or any(one.error for one in self.regained)
        return PartialResult.status if amiss else 0


def sync(config: Config) -> Synced:
    """Take in what lies on every road, then leave what is known here."""
    came = catalog_exchange.fetch_all(config)
    return Synced(came, _put(config), _expected(config))


def rebuild(config: Config) -> Synced:
    """The same, with a broken catalog set aside before and every target's sidecars read between. Raises Locked."""
    with lock.held(lock_file(config)):
        aside = _set_aside_if_broken(config)
        came = catalog_exchange.fetch_all(config)
        regained = tuple(_regained(config, target) for target in config.targets)
        return Synced(came, _put(config), _expected(config), aside, regained)


def _expected(config: Config) -> frozenset[str]:
    shares = (target.name for target in config.targets if target.carries_catalogs)
    return frozenset({*shares, *(peer.node for peer in config.peers)})


def _put(config: Config) -> ExchangeResult:
    """Leave our catalog everywhere; on a replicated volume only where this node may write.

    The doctor on the other node takes what the catalog says of this node's files to be as new as the catalog itself.
    """
    kept_configurations.keep(config)
    digests.record(config)
    went = ExchangeResult()
    for resource in config.resources:
        verdict = gate.ask(config, resource)
        on_volume = verdict.decision is Decision.PROCEED
        one = catalog_exchange.put_all(config, resource, on_volume=on_volume)
        went.new.update(one.new)
        went.closed.update(one.closed)
    return went


def _set_aside_if_broken(config: Config) -> str | None:
    """Where the broken catalog is now; what can still be read of this node's own facts is in the new one."""
    try:
        for resource in config.resources:
            view.copies(config.state_dir, config.node, resource.name, ())
        publish.publish(config.state_dir, config.node)
    except CatalogError:
        aside = store.set_aside(config.state_dir)
        if aside is not None:
            own = [fact for fact in merge.salvage(aside) if fact.node == config.node]
            store.record(config.state_dir, config.node, own)
        return aside
    return None


def _regained(config: Config, target: TargetConfig) -> Regained:
    try:
        return _read_sidecars(config, target)
    except Failure as error:
        return Regained(target.name, error=error)


def _read_sidecars(config: Config, target: TargetConfig) -> Regained:
    """Record the copies that lie on a target and are not known, and the target itself."""
    expected, known_until = view.expected(config, target), view.newest_row(config.state_dir)
    documents: list[dict[str, Any]] = []

    def on_event(event: SidecarRead) -> None:
        documents.append(event.sidecar)

    patience = Patience(LOOK, config.limits.stall)
    found = run_job(INSPECT, target.name, inspection(config, target, sidecars=True), patience, on_event)
    now = datetime.now(UTC)
    if target.is_local and expected is None and not found.medium and not found.objection:
        return Regained(target.name, is_new=True)
    if found.objection or not found.medium:
        hint = f"If this is the right medium: `drbdbackup target accept {target.name}`, then repeat this command."
        raise Failure(found.objection or f"{found.location} is not marked as a target", hint)
    place = SidecarMedium(found.medium, target.name, target.kind, found.holder, found.location, found.root)
    sidecars = [(one["resource"], one["snapshot"], one) for one in documents]
    there = copies_from_sidecars(place, sidecars)
    known = view.known_subjects(config.state_dir)
    copies = [bodies.adopted(config.node, now, copy) for copy in there if bodies.subject_of(copy) not in known]
    copies += [
        bodies.found(config.node, now, copy, ids)
        for copy, ids in view.reported_pruned(config.state_dir, config.node, there, known_until)
    ]
    facts = [*copies]
    if expected is None:
        facts.append(bodies.expected(config.node, now, subject(target, config.node), found.known_as(target.kind)))
    store.record(config.state_dir, config.node, facts)
    return Regained(target.name, len(copies))
