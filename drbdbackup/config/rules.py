"""What must hold between keys: one function per rule, each over the whole configuration, each yielding mistakes.

Paths are compared as they are written: where a symlink leads is seen at the run, this only reads the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from drbdbackup.config.kinds import shown, under
from drbdbackup.config.values import Config

# Names of our own at the place where a target keeps a folder for each resource.
RESERVED = ("catalog", "target.json")

Rule = Callable[[Config], Iterator[str]]


def _node_is_known(config: Config) -> Iterator[str]:
    if config.node not in config.nodes:
        nodes = ", ".join(map(shown, config.nodes))
        yield f"node = {shown(config.node)} (the short host name where it is left out): must be one of nodes, {nodes}"


def _names_differ(config: Config) -> Iterator[str]:
    """Case is folded, because the NAS that keeps a file for each name may do so too."""
    named = [(f"nodes {shown(node)}", node) for node in config.nodes]
    named += [(under("target", target.name), target.name) for target in config.targets]
    yield from _clashes(named, "the names of nodes and targets must differ (small and capital letters are the same)")


def _roads_differ(config: Config) -> Iterator[str]:
    """What came by the volume is believed more than what came by a share, so neither may pass for the other."""
    roads = {f"volume-{resource.name}".casefold(): resource.name for resource in config.resources}
    for target in config.targets:
        if resource := roads.get(target.name.casefold()):
            taken = f"the volume of resource {shown(resource)} goes by this name, so choose another"
            yield f"{under('target', target.name)}: {taken}"


def _resource_names_differ(config: Config) -> Iterator[str]:
    named = [(under("resource", resource.name), resource.name) for resource in config.resources]
    yield from _clashes(named, "the names of resources must differ (small and capital letters are the same)")
    for at, name in named:
        if name.casefold() in RESERVED:
            yield f"{at}: the name must not be one of {', '.join(map(shown, RESERVED))}"


def _clashes(named: list[tuple[str, str]], must: str) -> Iterator[str]:
    for (one, name), (other, same) in combinations(named, 2):
        if name.casefold() == same.casefold():
            yield f"{other}: is like {one}; {must}"


def _drbd_has_devices(config: Config) -> Iterator[str]:
    for resource in config.resources:
        if config.role.source == "drbd" and not resource.device:
            at = under(under("resource", resource.name), "device")
            yield f'{at} is missing: must be an absolute path where role.source = "drbd"'


def _plain_folders_have_no_device(config: Config) -> Iterator[str]:
    for resource in config.resources:
        if resource.device and not resource.require_mount:
            at = under(under("resource", resource.name), "require_mount")
            yield f"{at} = false: belongs to a resource without device only"


def _snapshots_need_drbd(config: Config) -> Iterator[str]:
    """Only DRBD says whether the disk on this node is up to date: a snapshot of one that is not would be old data."""
    for resource in config.resources:
        if resource.snapshot and config.role.source != "drbd":
            at = under(under("resource", resource.name), "snapshot")
            yield f'{at} = {shown(resource.snapshot)}: belongs to role.source = "drbd" only'


def _peers_are_nodes(config: Config) -> Iterator[str]:
    for peer in config.peers:
        if peer.node not in config.nodes:
            yield f"{under('peer', peer.node)}: must be one of nodes, {', '.join(map(shown, config.nodes))}"


def _devices_differ(config: Config) -> Iterator[str]:
    devices = [(f"resource.{resource.name}.device", resource.device) for resource in config.resources]
    devices += [(f"target.{target.name}.device", target.device) for target in config.targets]
    for (one, device), (other, same) in combinations(devices, 2):
        if device and device == same:
            yield f"{other} = {shown(same)}: must not be the device of {one}"


def _replacing_has_another(config: Config) -> Iterator[str]:
    """A copy is given up only while another target holds one: with a single target that could never be."""
    for target in config.targets:
        if target.on_full == "replace" and len(config.targets) < 2:
            at = under(under("target", target.name), "on_full")
            yield f'{at} = "replace": must be "keep" where there is no other target to hold a copy meanwhile'


def _some_target_is_in_every_run(config: Config) -> Iterator[str]:
    """Otherwise there were nights with nothing to do, and each of them would count as a backup that nobody made."""
    if all(target.schedule for target in config.targets):
        at = under(under("target", config.targets[0].name), "schedule")
        yield f"{at}: must be left out for at least one target, which follows the schedule at the top"


def _services_are_named(config: Config) -> Iterator[str]:
    """`services` gives the order; a table for one that is not in it would be passed over silently."""
    for resource in config.resources:
        at = under("resource", resource.name)
        for one in resource.service:
            if one.name not in resource.services:
                yield f"{under(under(at, 'service'), one.name)}: must be named in {at}.services"
        for name in {name for name in resource.services if resource.services.count(name) > 1}:
            yield f"{at}.services: {shown(name)} is named twice"


def _sources_differ(config: Config) -> Iterator[str]:
    for one, other in combinations(config.resources, 2):
        if one.source == other.source:
            yield f"resource.{other.name}.source = {shown(other.source)}: must not be that of resource.{one.name}"


def _places_are_apart(config: Config) -> Iterator[str]:
    """A copy inside its own source, or a state folder that leaves with the volume, would be found out too late."""
    sources = [(f"resource.{resource.name}.source", resource.source) for resource in config.resources]
    images = [(f"target.{target.name}.device", target.device) for target in config.targets if target.device]
    places = [(f"target.{target.name}.{target.folder_key}", target.folder) for target in config.targets]
    places.append(("state_dir", config.state_dir))
    apart = [*combinations(places, 2), *((source, place) for source in sources for place in [*places, *images])]
    for (one, place), (other, path) in apart:
        if _within(place, path) or _within(path, place):
            yield f"{other} = {shown(path)}: must not lie within {one} = {shown(place)}, nor the other way round"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _hooks_do_something(config: Config) -> Iterator[str]:
    holders = [(under("resource", resource.name), resource.hooks) for resource in config.resources]
    holders += [(under("target", target.name), target.hooks) for target in config.targets]
    for at, hooks in holders:
        for hook in hooks:
            if not (hook.before or hook.after or hook.on_error):
                yield f"{under(under(at, 'hook'), hook.name)}: must have before, after or on_error"


def _all_of_a_server_is_backed_up(config: Config) -> Iterator[str]:
    for resource in config.resources:
        for database in resource.databases:
            if database.method == "backup" and database.databases:
                at = under(under(under("resource", resource.name), "database"), database.name)
                yield f'{at}.databases: belongs to method = "dump" only; a backup is always of all'


RULES: tuple[Rule, ...] = (
    _node_is_known,
    _names_differ,
    _roads_differ,
    _resource_names_differ,
    _drbd_has_devices,
    _plain_folders_have_no_device,
    _snapshots_need_drbd,
    _peers_are_nodes,
    _devices_differ,
    _replacing_has_another,
    _some_target_is_in_every_run,
    _services_are_named,
    _sources_differ,
    _places_are_apart,
    _hooks_do_something,
    _all_of_a_server_is_backed_up,
)
