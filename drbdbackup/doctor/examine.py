"""The whole examination: gathers each theme's facts, the places that may hang all at once, and has them judged.

What hangs costs one probe its deadline and no more. What this node says of itself is recorded for the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drbdbackup import proc
from drbdbackup.catalog import view
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.doctor import (
    clocks,
    drbd,
    heartbeat,
    media,
    peers,
    programs,
    sameness,
    services,
    standing,
    starting,
    volume,
)
from drbdbackup.doctor.clocks import ClockFacts
from drbdbackup.doctor.drbd import DrbdFacts
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import CatalogError, DrbdBackupError, Stopped
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline import looking, roads
from drbdbackup.tools import mounts


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found on this node, theme by theme."""

    node: str
    findings: tuple[Finding, ...]


def examine(config: Config) -> Diagnosis:
    """Look at everything that a backup on this node needs. Whatever cannot be looked at is a finding, not an error."""
    host, table = os.uname().nodename, mounts.table()
    found = list(programs.judge(programs.gather()))
    cluster = heartbeat.gather(host, config.nodes)
    for resource in config.resources:
        found += _resource(config, resource, host, table, cluster)
    if config.role.source == "drbd" or cluster.is_used:
        found += heartbeat.judge(cluster)
    names = dict.fromkeys((*heartbeat.services(cluster.groups), *services.listed(config.file)))
    sources = [one.source for one in config.resources]
    found += [one for facts in services.gather(names, sources) for one in services.judge(facts)]
    found += starting.judge(starting.gather(config.schedule))
    try:
        found += _by_catalog(config, table)
    except CatalogError as error:
        found.append(Check("catalog").fail(error.message, error.hint))
    return Diagnosis(config.node, tuple(dict.fromkeys(found)))


def _resource(
    config: Config, resource: ResourceConfig, host: str, table: Sequence[Mount], cluster: heartbeat.HeartbeatFacts
) -> Iterator[Finding]:
    """DRBD, the role, the volume's place, and the links that lead there."""
    is_drbd, facts, first = config.role.source == "drbd", DrbdFacts(resource.name, host, config.nodes), []
    if is_drbd:
        facts = drbd.gather(config, resource, host)
        first = drbd.judge(facts)
    yield from first
    yield from standing.judge(standing.gather(config, resource), resource.name, explained=drbd.hides_the_role(first))
    links = tuple(sameness.links(resource.source))
    mounted = mounts.mounted_at(table, resource.source) is not None
    looks = {"place": lambda: volume.look(resource.source), "links": lambda: services.look(links if mounted else ())}
    seen = proc.probe_all(looks, config.limits.probe)
    place = seen["place"].message if isinstance(seen["place"], DrbdBackupError) else seen["place"]
    devices = [name for name in (resource.device, *drbd.backing_disks(facts)) if name]
    yield from volume.judge(volume.gather(resource.name, resource.source, place, devices))
    there = frozenset(seen["links"]) if mounted and isinstance(seen["links"], list) else None
    yield from services.judge_links(services.LinkFacts(resource.name, links, there))


def _by_catalog(config: Config, table: Sequence[Mount]) -> Iterator[Finding]:
    """The targets, the clocks and the other nodes, with what the catalog knows of them. Raises CatalogError."""
    roads.fetch_all(config)
    for target in config.targets:
        yield from _target(config, target, table)
    told = peers.gather(config)
    mine = sameness.here(config)
    if sameness.record(config):
        roads.put_all(config, config.resources[0], on_volume=False)
    has_disks = any(target.kind == "disk" for target in config.targets)
    names = tuple(one.name for one in config.resources) if config.role.source == "drbd" else ()
    for one in told:
        yield from peers.judge(one, mine, has_disks, names)
        yield from clocks.judge(_clock(config, one))


def _target(config: Config, target: TargetConfig, table: Sequence[Mount]) -> Iterator[Finding]:
    expected = view.expected_target(config.state_dir, roads.subject(target, config.node)) or {}
    found = _look(config, target)
    need = None if isinstance(found, tuple) else _need(config, target, found)
    facts = media.gather(target, found, str(expected.get("medium", "")), table, need)
    yield from media.judge(facts)
    if target.kind == "nas" and facts.medium and not facts.objection:
        yield from clocks.judge(_share_clock(config, target, expected))


def _look(config: Config, target: TargetConfig) -> dict[str, Any] | tuple[str, str]:
    try:
        return looking.look(config, target)
    except (CatalogError, Stopped):
        raise
    except DrbdBackupError as error:
        return error.message, error.hint


def _need(config: Config, target: TargetConfig, found: Mapping[str, Any]) -> media.Need | None:
    order = [one.name for one in config.targets]
    links = not any(word.startswith("hard links") for word in found["lacks"] or ())
    return media.together([
        media.need(
            view.copies(config.state_dir, one.name, order), target.name, found["medium"], links=links, size=None
        )
        for one in config.resources
    ])


def _share_clock(config: Config, target: TargetConfig, expected: Mapping[str, Any]) -> ClockFacts:
    try:
        look = clocks.looking(target, expected, config.node)
        return ClockFacts(target.name, float(proc.probe(look, config.limits.probe, target.path)))
    except Stopped:
        raise
    except DrbdBackupError as error:
        return ClockFacts(target.name, None, error.message)


def _clock(config: Config, peer: peers.PeerFacts) -> ClockFacts:
    """Over ssh the peer says what time it is; a share tells when the catalog came that says when it was sent."""
    if peer.ahead is not None:
        return ClockFacts(peer.node, peer.ahead)
    return ClockFacts(peer.node, None)
