"""The roads by which catalogs travel: the NAS, the replicated volume, the peer over ssh (the disk's is its copy job).

All are tried, each within a deadline; a road that is closed is no error, only a reason why less is known. Nothing is
put on a share that is not the target that it was, or on a volume that is not mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from drbdbackup import proc
from drbdbackup.catalog import exchange, view
from drbdbackup.config.values import Config, PeerConfig, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError, NotMounted, Stopped
from drbdbackup.model.backup import Copy, Reach
from drbdbackup.targets import identity, layout, target
from drbdbackup.tools import blkid, mounts

OWN_FOLDER = ".drbdbackup"
VOLUME = "volume-"


@dataclass(slots=True)
class Travelled:
    """What came by which road: new facts by road, refused files, and why a road was closed, in words."""

    new: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def along(self, road: str) -> Iterator[None]:
        """Try a road; why it is closed is remembered, not raised."""
        try:
            yield
            self.new.setdefault(road, 0)
        except Stopped:
            raise
        except DrbdBackupError as error:
            self.closed[road] = error.message

    def take_in(self, config: Config, road: str, folder: str, stamps: Mapping[str, list[int]]) -> None:
        """Merge what was fetched into `folder`."""
        for merged in exchange.take_in(config.state_dir, road, folder, stamps):
            self.new[road] = self.new.get(road, 0) + merged.new
            if merged.refused:
                self.refused[merged.file] = merged.refused


def fetch_all(config: Config, resource: ResourceConfig | None = None, deadline: float | None = None) -> Travelled:
    """Take in what the other nodes left on every road; `deadline` is in seconds, for each (default: the limits)."""
    travelled = Travelled()
    into = {road: exchange.incoming_folder(config.state_dir, road) for road, _ in _folders(config, resource)}
    looks = {
        road: _fetching(find, into[road], view.known_files(config.state_dir, road))
        for road, find in _folders(config, resource)
    }
    for road, stamps in proc.probe_all(looks, deadline or config.limits.probe).items():
        with travelled.along(road):
            travelled.take_in(config, road, into[road], _value(stamps))
    for peer in config.peers:
        with travelled.along(peer.node):
            _fetch_from_peer(config, peer, deadline or config.limits.ssh, travelled)
    return travelled


def put_all(config: Config, resource: ResourceConfig | None = None, *, on_volume: bool) -> Travelled:
    """Leave this node's catalog on every road that takes it (a peer fetches it by itself).

    `on_volume` says that this node may write to the replicated volume: its gate said proceed, and it still is there.
    """
    travelled = Travelled()
    published = exchange.publish(config.state_dir, config.node)
    looks = {
        road: _putting(find, published, config.node) for road, find in _folders(config, resource, may_write=True)
        if on_volume or not road.startswith(VOLUME)
    }  # fmt: skip
    for road, stamp in proc.probe_all(looks, config.limits.probe).items():
        with travelled.along(road):
            exchange.remember(config.state_dir, road, {f"{config.node}.db": _value(stamp)})
    return travelled


def open_volume(config: Config, resource: ResourceConfig) -> None:
    """Make our folder on the replicated volume before the walk sees its parent; a Primary only."""
    with Travelled().along(VOLUME + resource.name):
        proc.probe(volume_folder(resource, may_write=True), config.limits.probe, resource.source)


def reach(
    config: Config, copies: Iterable[Copy], travelled: Travelled, deadline: float | None = None
) -> dict[tuple[str, str], Reach]:
    """Which copies can be read from here, now, by (medium, snapshot); `travelled` tells which roads led somewhere.

    A share whose road is closed is not looked at again; `deadline` is as in `fetch_all`.
    """
    wanted = list(copies)
    near = {
        place: [copy for copy in wanted if copy.target == place.name and copy.holder in ("", config.node)]
        for place in config.targets
    }
    looks = {
        place.name: _looking(config, place, here)
        for place, here in near.items() if here and place.name not in travelled.closed
    }  # fmt: skip
    seen = proc.probe_all(looks, deadline or config.limits.probe)
    held = {
        (medium, snapshot) for there in seen.values() if not isinstance(there, DrbdBackupError)
        for medium, snapshot in there
    }  # fmt: skip
    keys = [(copy.medium, copy.snapshot) for here in near.values() for copy in here]
    found = {key: Reach.YES if key in held else Reach.NO for key in keys}
    reachable = {peer.node for peer in config.peers if peer.node in travelled.new}
    asked = {peer.node for peer in config.peers}
    for copy in wanted:
        if copy.holder not in ("", config.node):
            known = Reach.YES if copy.holder in reachable else Reach.NO
            found[copy.medium, copy.snapshot] = known if copy.holder in asked else Reach.UNKNOWN
    return found


def _folders(
    config: Config, resource: ResourceConfig | None, may_write: bool = False
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each road's name and what finds its folder; the finding is for a probe, as it may hang."""
    for share in config.targets:
        if share.kind == "nas":
            yield share.name, _share_folder(config, share, may_write)
    for volume in config.resources:
        if resource in (None, volume):
            yield VOLUME + volume.name, volume_folder(volume, may_write)


def _share_folder(config: Config, share: TargetConfig, may_write: bool) -> Callable[[], str]:
    named = subject(share, config.node)
    expected = view.expected_target(config.state_dir, named)
    ours = view.ours(config.state_dir, named, config.nodes) if may_write else ()

    def find() -> str:
        with target(share).opened(config.node, write=False) as medium:
            if may_write:
                identity.check(medium, expected, config.node, may_enrol=False)
                identity.refuse_foreign(medium, config.nodes, ours)
            return layout.catalogs(medium.root)

    return find


def volume_folder(volume: ResourceConfig, may_write: bool) -> Callable[[], str]:
    """What finds the folder for catalogs on a replicated volume; it is for a probe. It raises NotMounted."""

    def find() -> str:
        mounted = mounts.mounted_at(mounts.table(), volume.source)
        if volume.device and (mounted is None or os.path.realpath(mounted.source) != os.path.realpath(volume.device)):
            raise NotMounted(f"{volume.device} is not mounted at {volume.source}")
        folder = os.path.join(volume.source, OWN_FOLDER)
        if may_write:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        return os.path.join(folder, "catalog")

    return find


def _value(answer: Any) -> Any:
    """What a look found, or raise what it raised."""
    if isinstance(answer, DrbdBackupError):
        raise answer
    return answer


def _fetching(find: Callable[[], str], into: str, known: Mapping[str, list[int]]) -> Callable[[], object]:
    return lambda: exchange.fetch(find(), into, known)


def _putting(find: Callable[[], str], published: str, node: str) -> Callable[[], object]:
    return lambda: exchange.put(published, find(), node)


def _looking(config: Config, place: TargetConfig, copies: list[Copy]) -> Callable[[], object]:
    """Which of these copies are there, as [medium, snapshot]. A disk is not mounted for this: its UUID must do."""
    expected = view.expected_target(config.state_dir, subject(place, config.node)) or {}

    def look_at_disk() -> list[list[str]]:
        if blkid.filesystem(place.device).uuid != expected.get("filesystem_uuid"):
            return []
        return [[copy.medium, copy.snapshot] for copy in copies if copy.medium == expected.get("medium")]

    def look_at_share() -> list[list[str]]:
        with target(place).opened(config.node, write=False) as medium:
            found = identity.check(medium, expected, config.node, may_enrol=False)
            return [
                [copy.medium, copy.snapshot]
                for copy in copies
                if copy.medium == found.medium
                and os.path.isdir(layout.data(layout.published(medium.root, copy.resource, copy.snapshot)))
            ]

    return look_at_disk if place.kind == "disk" else look_at_share


def _fetch_from_peer(config: Config, peer: PeerConfig, deadline: float, travelled: Travelled) -> None:
    from drbdbackup.tools import ssh

    folder = exchange.incoming_folder(config.state_dir, peer.node)
    content = ssh.catalog(peer, deadline)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = f"{peer.node}.db"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)
    travelled.take_in(config, peer.node, folder, {name: [0, len(content), 0]})


def subject(target: TargetConfig, node: str) -> str:
    """What the catalog calls a target: a disk has one identity per node."""
    return f"{target.name}@{node}" if target.kind == "disk" else target.name


def surroundings(config: Config) -> dict[str, Any]:
    """What every caged job is told of this node.

    `volumes` are the mount points of all resources: a cage lets go of those that it has no business with. `marks` is
    where disks that are mounted without a cage are marked, None where cages can be had.
    """
    caged = proc.can_cage()
    return {
        "node": config.node, "caged": caged, "volumes": [resource.source for resource in config.resources],
        "marks": None if caged else os.path.join(config.state_dir, "mounted"),
    }  # fmt: skip
