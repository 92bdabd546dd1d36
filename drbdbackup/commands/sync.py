"""`sync`: exchange catalogs on every road now; with --rebuild, gather a lost catalog anew from the media.

A rebuild invents nothing: what the other nodes know comes first, so that what was pruned stays pruned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from drbdbackup import gate, lock
from drbdbackup.catalog import bodies, exchange, store, view
from drbdbackup.catalog.rebuild import Place, facts_from_sidecars
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import CatalogError, DrbdBackupError, PartialResult, Stopped
from drbdbackup.model.role import Decision
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.cage import Event
from drbdbackup.pipeline.looking import LOOK, inspection
from drbdbackup.pipeline.roads import Travelled, subject


@dataclass(frozen=True, slots=True)
class Regained:
    """What a rebuild found on one target: copies that the catalog did not know, or why it could not be read.

    `is_new`: a disk of this node that is not marked, and no run has used one yet.
    """

    target: str
    copies: int = 0
    is_new: bool = False
    error: DrbdBackupError | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """What came, what went, and what a rebuild did: where the broken catalog is now, and what each medium told."""

    came: Travelled
    went: Travelled
    aside: str | None = None
    regained: tuple[Regained, ...] = field(default=())


def sync(config: Config) -> Synced:
    """Take in what lies on every road, then leave what is known here."""
    came = roads.fetch_all(config)
    return Synced(came, _put(config))


def rebuild(config: Config) -> Synced:
    """The same, with a broken catalog set aside before and every target's sidecars read between. Raises Locked."""
    with lock.held(lock_file(config)):
        aside = _set_aside_if_broken(config)
        came = roads.fetch_all(config)
        regained = tuple(_regained(config, target) for target in config.targets)
        return Synced(came, _put(config), aside, regained)


def exit_status(config: Config, synced: Synced) -> int:
    """1 if no share and no peer could be reached, partial if one could not, or something else was amiss.

    The replicated volume does not count: on a Secondary it is closed by its nature.
    """
    names = {target.name for target in config.targets if target.kind == "nas"} | {peer.node for peer in config.peers}
    if names and names <= synced.came.closed.keys():
        return DrbdBackupError.status
    closed = names & {*synced.came.closed, *synced.went.closed}
    amiss = closed or synced.came.refused or any(one.error for one in synced.regained)
    return PartialResult.status if amiss else 0


def _put(config: Config) -> Travelled:
    """Leave our catalog everywhere; on a replicated volume only where this node may write."""
    went = Travelled()
    for resource in config.resources:
        verdict = gate.judge(resource, config.node, config.nodes, gate.gather(config, resource))
        on_volume = verdict.decision is Decision.PROCEED
        one = roads.put_all(config, resource, on_volume=on_volume)
        went.new.update(one.new)
        went.closed.update(one.closed)
    return went


def _set_aside_if_broken(config: Config) -> str | None:
    """Where the broken catalog is now; what can still be read of this node's own facts is in the new one."""
    try:
        for resource in config.resources:
            view.copies(config.state_dir, resource.name, ())
        exchange.publish(config.state_dir, config.node)
    except CatalogError:
        aside = store.set_aside(config.state_dir)
        if aside is not None:
            own = [said for said in exchange.salvage(aside) if said.node == config.node]
            store.record(config.state_dir, config.node, own)
        return aside
    return None


def _regained(config: Config, target: TargetConfig) -> Regained:
    try:
        return _read_sidecars(config, target)
    except Stopped:
        raise
    except DrbdBackupError as error:
        return Regained(target.name, error=error)


def _read_sidecars(config: Config, target: TargetConfig) -> Regained:
    """Record the copies that lie on a target and are not known, and the target itself."""
    expected = view.expected_target(config.state_dir, subject(target, config.node))
    documents: list[dict[str, Any]] = []

    def hear(event: Event) -> None:
        documents.append(event.fields["sidecar"])

    patience = Patience(LOOK, config.limits.stall)
    found = attend(target.name, inspection(config, target, sidecars=True), patience, hear)
    now = datetime.now(UTC)
    if target.kind == "disk" and expected is None and not found["medium"] and not found["objection"]:
        return Regained(target.name, is_new=True)
    if found["objection"] or not found["medium"]:
        raise DrbdBackupError(found["objection"] or f"{found['location']} is not marked as a target")
    place = Place(found["medium"], target.name, target.kind, found["holder"], found["location"], found["root"])
    sidecars = [(one["resource"], one["snapshot"], one) for one in documents]
    copies = facts_from_sidecars(config.node, now, place, sidecars, view.known_subjects(config.state_dir))
    facts = [*copies]
    if expected is None:
        body = {key: found[key] for key in ("medium", "filesystem_uuid", "location")} | {"kind": target.kind}
        facts.append(bodies.expected(config.node, now, subject(target, config.node), body))
    store.record(config.state_dir, config.node, facts)
    return Regained(target.name, len(copies))
