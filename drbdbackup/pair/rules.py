"""What must hold between the keys of `pair.toml`: one function per rule, over the whole pair, yielding mistakes.

Pure. What a single key may be is in `keys`, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import combinations, pairwise

from drbdbackup import schedule
from drbdbackup.config.kinds import shown, under
from drbdbackup.config.rules import RESERVED
from drbdbackup.config.values import STATE_DIR
from drbdbackup.errors import ConfigError
from drbdbackup.pair.keys import HOST
from drbdbackup.pair.services import place_on_volume
from drbdbackup.pair.values import NFS_OPTIONS, Pair

TARGETS = ("nas", "disk")  # the names that the rendered config.toml gives them
AGENTS = ("IPaddr", "drbddisk", "Filesystem", "drbdbackup")  # what haresources starts before the services
_OF_EVERY_MACHINE = ("localhost", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters")  # in /etc/hosts
_KEYWORDS = ("all", *RESERVED)  # drbdadm takes `all` for every resource

# What a service must not take onto the volume, because a node needs it to become Primary, or to be one at all.
_OF_THE_NODE = (
    "/bin", "/boot", "/dev", "/lib", "/proc", "/root", "/run", "/sbin", "/sys",
    "/etc/cron.d", "/etc/drbd.d", "/etc/drbdbackup", "/etc/ha.d", "/etc/init.d", "/etc/network", "/etc/ssh",
    "/etc/systemd", "/usr", "/var/lib/dpkg", "/var/lib/drbd", "/var/lib/drbdbackup", "/var/lib/heartbeat",
)  # fmt: skip

Rule = Callable[[Pair], Iterator[str]]


def _two_nodes(pair: Pair) -> Iterator[str]:
    if len(pair.nodes) != 2:
        names = ", ".join(node.name for node in pair.nodes)
        yield f"node: there are {len(pair.nodes)} ({names}): must be exactly two"


def _names(pair: Pair) -> Iterator[str]:
    for node in pair.nodes:
        if HOST.parse(node.name) is None:
            yield f"{under('node', node.name)}: the name must be {HOST.allowed}"
        if node.name in _OF_EVERY_MACHINE:
            yield f"{under('node', node.name)}: the name must not be one that each machine has for itself"
        if node.name in TARGETS:
            yield f"{under('node', node.name)}: the name must not be that of a target, {' or '.join(TARGETS)}"
    if pair.volume.resource.casefold() in _KEYWORDS:
        yield f"volume.resource = {shown(pair.volume.resource)}: must not be one of {', '.join(map(shown, _KEYWORDS))}"


def _addresses(pair: Pair) -> Iterator[str]:
    named = [(f"{under('node', node.name)}.public", node.public, "public", pair.public.network) for node in pair.nodes]
    named.append(("public.virtual_ip", pair.public.virtual_ip, "public", pair.public.network))
    named += [
        (f"{under('node', node.name)}.private", node.private, "private", pair.private.network) for node in pair.nodes
    ]
    for at, address, link, network in named:
        if not _is_host(address, network):
            yield f'{at} = "{address}": must be the address of a host in {link}.network = "{network}"'
    for (one, address, _, _), (other, same, _, _) in combinations(named, 2):
        if address == same:
            yield f'{other} = "{same}": must not be that of {one}'
    source = pair.nas.source if pair.nas else ""
    for at, address, _, _ in named:
        if source.startswith((f"{address}:", f"//{address}/")):
            yield f"backup.nas.source = {shown(source)}: must not be at {at}: a NAS is a machine of its own"


def _is_host(address: IPv4Address, network: IPv4Network) -> bool:
    ends = (network.network_address, network.broadcast_address) if network.prefixlen < 31 else ()
    return address in network and address not in ends


def _links_differ(pair: Pair) -> Iterator[str]:
    if pair.public.network.overlaps(pair.private.network):
        yield f'private.network = "{pair.private.network}": must not overlap with public.network'
    if pair.public.interface == pair.private.interface:
        yield f"private.interface = {shown(pair.private.interface)}: must not be that of public"


def _times(pair: Pair) -> Iterator[str]:
    beat = pair.heartbeat
    ordered = (("keepalive", beat.keepalive), ("warntime", beat.warntime), ("deadtime", beat.deadtime))
    for (one, less), (other, more) in pairwise(ordered):
        if less >= more:
            yield f"heartbeat.{other} = {more}: must be more than heartbeat.{one} = {less}"
    if beat.initdead < 2 * beat.deadtime:
        yield f"heartbeat.initdead = {beat.initdead}: must be at least twice heartbeat.deadtime = {beat.deadtime}"


def _targets(pair: Pair) -> Iterator[str]:
    if pair.nas is None and pair.disk is None:
        yield "backup: must hold a place for the backups, [backup.nas] or [backup.disk] or both"
    if pair.nas and pair.nas.type == "nfs" and ":/" not in pair.nas.source:
        yield f'backup.nas.source = {shown(pair.nas.source)}: must be like "133.10.10.20:/export/backup"'
    if pair.nas and pair.nas.type != "nfs" and pair.nas.options == NFS_OPTIONS:
        yield f'backup.nas.options is missing: must be given where backup.nas.type is {shown(pair.nas.type)}, not "nfs"'


def _schedule(pair: Pair) -> Iterator[str]:
    try:
        schedule.check(pair.schedule)
    except ConfigError as error:
        yield f"backup.{error.message}"


def _disks_differ(pair: Pair) -> Iterator[str]:
    """A partition of the same disk is another device; the whole disk and a partition of it are not."""
    if pair.disk is None:
        return
    for node in pair.nodes:
        for one, other in ((node.disk, pair.disk.device), (pair.disk.device, node.disk)):
            if re.fullmatch(rf"{re.escape(one)}(?:p?[0-9]+)?", other):
                yield f"backup.disk.device = {shown(pair.disk.device)}: is the disk below DRBD on {node.name}"
                break


def _places_are_apart(pair: Pair) -> Iterator[str]:
    places = [("volume.mount_point", pair.volume.mount_point)]
    places += [("backup.nas.path", pair.nas.path)] if pair.nas else []
    places += [("backup.disk.mountpoint", pair.disk.mountpoint)] if pair.disk else []
    folders = [(under("service", service.name), folder) for service in pair.services for folder in service.folders]
    own = [("drbdbackup's own", STATE_DIR)]
    for (one, path), (other, folder) in combinations([*own, *places, *folders], 2):
        if _within(path, folder) or _within(folder, path):
            yield f"{other} = {shown(folder)}: must not lie within {one} = {shown(path)}, nor the other way round"


def _folders(pair: Pair) -> Iterator[str]:
    taken: dict[str, str] = {}
    for service in pair.services:
        at = f"{under('service', service.name)}.folders"
        if not service.folders and not service.init:
            yield f"{under('service', service.name)}: is not known here; must have folders, or init, or both"
        for folder in service.folders:
            if folder.count("/") < 2 or any(_within(kept, folder) or _within(folder, kept) for kept in _OF_THE_NODE):
                yield f"{at}: {shown(folder)} belongs to the node and cannot lie on the volume"
            place = place_on_volume(folder)
            if taken.setdefault(place, folder) != folder:
                yield f"{at}: {shown(folder)} and {shown(taken[place])} would be {place} on the volume"


def _scripts_differ(pair: Pair) -> Iterator[str]:
    """One that is named twice in haresources would be stopped while the other still needs it."""
    named = [("the pair's own", agent) for agent in AGENTS]
    named += [(f"{under('service', service.name)}.init", service.init) for service in pair.services if service.init]
    for (one, init), (other, same) in combinations(named, 2):
        if init == same:
            yield f"{other} = {shown(same)}: must not be that of {one}"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


RULES: tuple[Rule, ...] = (
    _two_nodes,
    _names,
    _addresses,
    _links_differ,
    _times,
    _targets,
    _schedule,
    _disks_differ,
    _places_are_apart,
    _folders,
    _scripts_differ,
)
