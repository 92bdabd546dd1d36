"""The roads by which catalogs travel: the NAS, the replicated volume, the peer over ssh (the disk's is its copy job).

All are tried, each within a deadline; a road that is closed is no error, only a reason why less is known. Nothing is
put on a share that is not the target that it was, or on a volume that is not mounted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct, field

from drbdbackup import proc, verbose
from drbdbackup.catalog import folders, merge, publish, view
from drbdbackup.catalog.bodies import subject
from drbdbackup.catalog.folders import private_folder
from drbdbackup.catalog.signatures import known_key, signers
from drbdbackup.catalog.transfer import fetch, put
from drbdbackup.config.values import Config, PeerConfig, ResourceConfig, TargetConfig
from drbdbackup.errors import DrbdBackupError, Failure, NotMounted, Stalled
from drbdbackup.model.backup import Copy, Reach
from drbdbackup.targets import identity, layout, nas, target
from drbdbackup.tools import blkid, mounts

OWN_FOLDER = ".drbdbackup"
VOLUME = "volume-"


class ExchangeResult(Struct):
    """What came by which road: new facts by road, refused files, and why a road was closed, in words.

    `unmounted` are the replicated volumes that are not mounted here: on a Secondary that is as it should be. `late` are
    the roads that gave no answer in time: nothing is known of what is behind them.
    """

    new: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)
    unmounted: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)

    @property
    def unread(self) -> dict[str, str]:
        """Why nothing, or not everything, was learned by a road, in words: it was closed, or a catalog was refused."""
        refused = {
            os.path.basename(os.path.dirname(file)): f"{os.path.basename(file)} is refused: {why}"
            for file, why in self.refused.items()
        }
        return {**refused, **self.closed}

    @contextmanager
    def trying(self, road: str) -> Iterator[None]:
        """Try a road; why it is closed is remembered, not raised."""
        try:
            yield
            self.new.setdefault(road, 0)
            verbose.tell(f"{road}: open, {self.new[road]} new facts")
        except NotMounted as error:
            if road.startswith(VOLUME):
                self.unmounted.add(road)
            else:
                self.closed[road] = error.message
        except Failure as error:
            self.closed[road] = error.message
            verbose.tell(f"{road}: closed: {error.message}")
            if isinstance(error, Stalled):
                self.late.add(road)

    def merge_road(
        self, config: Config, road: str, folder: str, stamps: Mapping[str, list[int]], introduced: Collection[str] = ()
    ) -> None:
        """Merge what was fetched into `folder`. Only the `introduced` nodes can have put theirs on this road."""
        state_dir = config.state_dir
        for node in introduced:
            file = os.path.join(folder, f"{node}.db")
            if f"{node}.db" not in stamps:
                continue
            if why := merge.learn_key(state_dir, file, node, known_key(state_dir, node)):
                self.refused[file] = why
        whose = signers(state_dir, config.node, config.nodes)
        for merged in merge.merge_fetched(state_dir, road, folder, stamps, whose):
            self.new[road] = self.new.get(road, 0) + merged.new
            if merged.refused:
                self.refused.setdefault(merged.file, merged.refused)


def fetch_all(config: Config, resource: ResourceConfig | None = None, deadline: float | None = None) -> ExchangeResult:
    """Take in what the other nodes left on every road; `deadline` is in seconds, for each (default: the limits)."""
    exchange = ExchangeResult()
    volumes = dict(_volume_folders(config, resource))
    into = {road: folders.incoming_folder(config.state_dir, road) for road, _ in _folders(config, resource)}
    looks = {
        road: _fetching(
            find, into[road], view.known_files(config.state_dir, road), config.nodes, only_ours=road in volumes
        )
        for road, find in _folders(config, resource)
    }
    others = [node for node in config.nodes if node != config.node]
    found = proc.probe_all(looks, deadline or config.limits.probe)
    # Those that introduce a node come first: what a share says in its name is measured by them.
    for road in volumes:
        with exchange.trying(road):
            exchange.merge_road(config, road, into[road], _value(found[road]), others)
    for peer in config.peers:
        with exchange.trying(peer.node):
            _fetch_from_peer(config, peer, deadline or config.limits.ssh, exchange)
    for road in (one for one in found if one not in volumes):
        with exchange.trying(road):
            exchange.merge_road(config, road, into[road], _value(found[road]))
    return exchange


def put_all(config: Config, resource: ResourceConfig | None = None, *, on_volume: bool) -> ExchangeResult:
    """Leave this node's catalog on every road that takes it (a peer fetches it by itself).

    `on_volume` says that this node may write to the replicated volume: its gate said proceed, and it still is there.
    """
    exchange = ExchangeResult()
    published = publish.publish(config.state_dir, config.node)
    volumes = dict(_volume_folders(config, resource))
    looks = {
        road: _putting(find, published, config.node) for road, find in _folders(config, resource, may_write=True)
        if on_volume or road not in volumes
    }  # fmt: skip
    for road, stamp in proc.probe_all(looks, config.limits.probe).items():
        with exchange.trying(road):
            merge.remember(config.state_dir, road, {f"{config.node}.db": _value(stamp)})
    return exchange


def open_volume(config: Config, resource: ResourceConfig) -> None:
    """Make our folder on the replicated volume before the walk sees its parent; a Primary only.

    If our catalog is not there yet, it is put there: should this run end in a failover, the next Primary knows our key.
    """
    find, name = volume_folder(resource, may_write=True), f"{config.node}.db"
    with ExchangeResult().trying(VOLUME + resource.name):
        is_there = proc.probe(lambda: os.path.lexists(os.path.join(find(), name)), config.limits.probe, resource.source)
        if not is_there:
            putting = _putting(find, publish.publish(config.state_dir, config.node), config.node)
            proc.probe(putting, config.limits.probe, resource.source)


def reach(
    config: Config, copies: Iterable[Copy], exchange: ExchangeResult, deadline: float | None = None
) -> dict[tuple[str, str], Reach]:
    """Which copies can be read from here, now, by (medium, snapshot); `exchange` says which roads were open.

    A share whose road is closed is not looked at again, and an engine, whose way may be long, not at all; `deadline` is
    as in `fetch_all`.
    """
    wanted = list(copies)
    near = {
        place: [copy for copy in wanted if copy.target == place.name and copy.holder in ("", config.node)]
        for place in config.targets
    }
    looks = {
        place.name: _looking(config, place, here)
        for place, here in near.items() if here and place.has_tree and place.name not in exchange.closed
    }  # fmt: skip
    seen = proc.probe_all(looks, deadline or config.limits.probe)
    held = {
        (medium, snapshot) for there in seen.values() if not isinstance(there, DrbdBackupError)
        for medium, snapshot in there
    }  # fmt: skip
    keys = [(copy.medium, copy.snapshot) for here in near.values() for copy in here]
    found = {key: Reach.YES if key in held else Reach.NO for key in keys}
    far = [copy for place, here in near.items() if not place.has_tree for copy in here]
    found |= {(copy.medium, copy.snapshot): Reach.UNKNOWN for copy in far}
    reachable = {peer.node for peer in config.peers if peer.node in exchange.new}
    asked = {peer.node for peer in config.peers}
    for copy in wanted:
        if copy.holder not in ("", config.node):
            known = Reach.YES if copy.holder in reachable else Reach.NO
            is_known = copy.holder in asked and copy.holder not in exchange.late
            found[copy.medium, copy.snapshot] = known if is_known else Reach.UNKNOWN
    return found


def _folders(
    config: Config, resource: ResourceConfig | None, *, may_write: bool = False
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each road's name and what finds its folder; the finding is for a probe, as it may hang."""
    for share in config.targets:
        if share.carries_catalogs:
            yield share.name, _share_folder(config, share, may_write=may_write)
    yield from _volume_folders(config, resource, may_write=may_write)


def _volume_folders(
    config: Config, resource: ResourceConfig | None, *, may_write: bool = False
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Those on replicated volumes. Only root of a node can write there, so it is they that introduce a node."""
    for volume in config.resources:
        if resource in (None, volume):
            yield VOLUME + volume.name, volume_folder(volume, may_write=may_write)


def _share_folder(config: Config, share: TargetConfig, *, may_write: bool) -> Callable[[], str]:
    """What is read there is judged by its own digests and signatures; only a writer asks whether it is the target."""
    if not may_write:
        return lambda: _catalogs_there(share)
    named = subject(share, config.node)
    expected = view.expected(config, share)
    ours = view.ours(config.state_dir, named, config.nodes)

    def find() -> str:
        with target(share).opened(config.node, write=False) as medium:
            identity.check(medium, expected, config.node, may_enrol=False)
            identity.refuse_foreign(medium, config.nodes, ours)
            return layout.catalogs(medium.root)

    return find


def _catalogs_there(share: TargetConfig) -> str:
    with nas.there(share):
        return layout.catalogs(share.path)


def volume_folder(volume: ResourceConfig, *, may_write: bool) -> Callable[[], str]:
    """What finds the folder for catalogs on a replicated volume; it is for a probe. It raises NotMounted."""

    def find() -> str:
        mounted = mounts.mounted_at(mounts.table(), volume.source)
        known = mounted.source if mounted is not None and mounted.may_show_device() else ""
        if volume.device and (not known or os.path.realpath(known) != os.path.realpath(volume.device)):
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


def _fetching(
    find: Callable[[], str], into: str, known: Mapping[str, list[int]], nodes: Collection[str], *, only_ours: bool
) -> Callable[[], object]:
    return lambda: fetch(find(), into, known, nodes, only_ours=only_ours)


def _putting(find: Callable[[], str], published: str, node: str) -> Callable[[], object]:
    return lambda: put(published, find(), node)


def _looking(config: Config, place: TargetConfig, copies: list[Copy]) -> Callable[[], object]:
    """Which of these copies are there, as [medium, snapshot]. A disk is not mounted for this: its UUID must do."""
    expected = view.expected(config, place)

    def look_at_device() -> list[list[str]]:
        if expected is None or blkid.filesystem(place.address).uuid != expected.filesystem_uuid:
            return []
        return [[copy.medium, copy.snapshot] for copy in copies if copy.medium == expected.medium]

    def look_at_folder() -> list[list[str]]:
        with target(place).opened(config.node, write=False) as medium:
            found = identity.check(medium, expected, config.node, may_enrol=False)
            return [
                [copy.medium, copy.snapshot]
                for copy in copies
                if copy.medium == found.medium
                and os.path.isdir(layout.data(layout.published(medium.root, copy.resource, copy.snapshot)))
            ]

    return look_at_device if place.is_mounted_for_use else look_at_folder


def _fetch_from_peer(config: Config, peer: PeerConfig, deadline: float, exchange: ExchangeResult) -> None:
    from drbdbackup.tools import ssh

    folder = folders.incoming_folder(config.state_dir, peer.node)
    content = ssh.catalog(peer, deadline)
    private_folder(folder)
    name = f"{peer.node}.db"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)
    exchange.merge_road(config, peer.node, folder, {name: [0, len(content), 0]}, [peer.node])
