"""The whole examination, theme by theme: this node, the volume, what starts a run, targets and peers.

The only place that knows all themes. It decides nothing itself, and one that fails must not hide the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from msgspec import Struct

from drbdbackup import gate, lock, proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.doctor import (
    agent,
    databases,
    drbd,
    heartbeat,
    lvm,
    monitoring,
    owners,
    role_and_name,
    rsync,
    services,
    starting,
    state_folder,
    targets_and_peers,
    volume,
)
from drbdbackup.doctor.drbd import DrbdFacts
from drbdbackup.doctor.finding import Check, Finding, FindingState
from drbdbackup.errors import CatalogError, DrbdBackupError
from drbdbackup.model.mount import Mount
from drbdbackup.pair import digests
from drbdbackup.pipeline.volume import lvm_leftovers
from drbdbackup.tools import mounts


class Diagnosis(Struct, frozen=True):
    """What was found on this node, theme by theme."""

    node: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """1 if something FAILs; a WARN is no failure."""
        return DrbdBackupError.status if any(one.state is FindingState.FAIL for one in self.findings) else 0


def examine(config: Config) -> Diagnosis:
    """Look at everything that a backup on this node needs. Whatever cannot be looked at is a finding, not an error."""
    host, table = os.uname().nodename, mounts.table()
    found = role_and_name.judge_name(role_and_name.NameFacts(config.file, config.node, config.nodes, host))
    for resource in config.resources:
        found += _resource(config, resource, host, table)
    found += [*_cluster(config, host), *rsync.judge(rsync.gather())]
    found += [finding for one in owners.gather(config) for finding in owners.judge(one)]
    state = state_folder.gather(config)
    found += state_folder.judge(state)
    starts = starting.gather(config.schedule)
    found += starting.judge(starts)
    found += monitoring.judge(monitoring.gather(config, datetime.now(UTC)))
    found += monitoring.judge_messages(monitoring.gather_messages(config, starts.jobs))
    try:
        found += targets_and_peers.examine(config, table)
    except CatalogError as error:
        if not state.problem:
            found.append(Check("catalog").fail(error.message, error.hint))
    return Diagnosis(config.node, tuple(dict.fromkeys(found)))


def _cluster(config: Config, host: str) -> Iterator[Finding]:
    """What swaps the nodes, and the services that it alone may start."""
    facts = heartbeat.gather(host, config.nodes)
    if config.role.source == "drbd" or facts.is_used:
        yield from heartbeat.judge(facts)
    for one in agent.gather():
        yield from agent.judge(one)
    names = dict.fromkeys((*heartbeat.services(facts.groups), *services.listed(config.file)))
    for service in services.gather(names, [resource.source for resource in config.resources]):
        yield from services.judge(service)


def _resource(config: Config, resource: ResourceConfig, host: str, table: Sequence[Mount]) -> Iterator[Finding]:
    """DRBD, the role, and the volume's place."""
    facts, first = DrbdFacts(resource=resource.name, host=host, nodes=config.nodes), list[Finding]()
    if config.role.source == "drbd":
        facts = drbd.gather(config, resource, host)
        first = drbd.judge(facts)
    yield from first
    explained = drbd.hides_the_role(first)
    yield from role_and_name.judge(gate.ask(config, resource), resource.name, explained=explained)
    yield from _place(config, resource, [resource.device, *drbd.backing_disks(facts)], table)
    yield from _databases(config, resource, table)
    if (resource.snapshot or lvm_leftovers.is_noted(config, resource)) and facts.defined is not None:
        is_at_work = lock.is_held(os.path.join(config.state_dir, "lock"))
        yield from lvm.judge(lvm.gather(config, resource, table, is_at_work=is_at_work))


def _databases(config: Config, resource: ResourceConfig, table: Sequence[Mount]) -> Iterator[Finding]:
    """Their defaults files, wherever these lie."""
    named = [one for one in resource.databases if one.defaults_file]
    looks = {one.name: partial(databases.look, one.defaults_file) for one in named}
    seen = proc.probe_all(looks, config.limits.probe)
    mounted = mounts.mounted_at(table, resource.source) is not None
    for one in named:
        found = seen[one.name]
        answer = found.message if isinstance(found, DrbdBackupError) else found
        yield from databases.judge(databases.gather(one, answer, resource.source, mounted=mounted))


def _place(
    config: Config, resource: ResourceConfig, devices: Sequence[str], table: Sequence[Mount]
) -> Iterator[Finding]:
    """The folder of the volume, fstab, and the links that lead there. What touches the volume may hang."""
    links, source = tuple((digests.linked(config) or {}).get(resource.name, ())), resource.source
    mounted = mounts.mounted_at(table, source) is not None
    looks = {source: lambda: volume.look(source), "links": lambda: services.look(links if mounted else ())}
    seen = proc.probe_all(looks, config.limits.probe)
    place = seen[source].message if isinstance(seen[source], DrbdBackupError) else seen[source]
    yield from volume.judge(volume.gather(resource.name, source, place, list(filter(None, devices))))
    there = frozenset(seen["links"]) if mounted and isinstance(seen["links"], list) else None
    yield from services.judge_links(services.LinkFacts(resource.name, links, there))
