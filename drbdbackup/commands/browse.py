"""`browse`: the snapshots of a resource as trees, each opened when somebody looks into it. It changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from msgspec import Struct, field

from drbdbackup.catalog.unconfigured_resources import other_resources, without_backup
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NoBackup
from drbdbackup.pipeline.copies.fetch_manifest import fetched
from drbdbackup.pipeline.copies.known_copies import KnownCopy, fetch_catalogs, found
from drbdbackup.pipeline.copies.read_copy import scratch_folder
from drbdbackup.pipeline.explore.manifest_index import ManifestIndex
from drbdbackup.pipeline.restore.request import Request


class Picked(Struct, frozen=True):
    """What somebody wants back: `paths` of one snapshot ("" for all of it) into the folder `to`."""

    snapshot: str
    paths: tuple[str, ...]
    to: str

    def requests(self, resource: str) -> list[Request]:
        """A restore for each, into the same folder."""
        return [
            Request(resource=resource, snapshot=self.snapshot, path=path, to=self.to, merge=at > 0)
            for at, path in enumerate(self.paths)
        ]


class ManifestCache(Struct, kw_only=True):
    """The snapshots, newest first, each with all of its copies. A manifest is fetched when it is first opened.

    `is_closed` stops at once what another thread is fetching.
    """

    config: Config
    resource: ResourceConfig
    snapshots: dict[str, tuple[KnownCopy, ...]]
    scratch: str
    stack: ExitStack
    is_closed: bool = False
    _open: dict[str, ManifestIndex] = field(default_factory=dict)
    _turn: Lock = field(default_factory=Lock)

    def index_of(self, snapshot: str) -> ManifestIndex:
        """The entries of a snapshot; the first time, its manifest is brought here. Raises NothingFound, Interrupted."""
        with self._turn:
            if snapshot not in self._open:
                file = os.path.join(self.scratch, snapshot)
                fetched(self.config, self.resource, snapshot, file, plain=True, why_stop=self._why_stop)
                lines = self.stack.enter_context(open(file, "rb", buffering=1 << 13))  # noqa: SIM115  the stack closes it
                self._open[snapshot] = ManifestIndex(lines)
            return self._open[snapshot]

    def _why_stop(self) -> str:
        return "browse was closed" if self.is_closed else ""


@contextmanager
def open_cache(config: Config, resource: ResourceConfig) -> Iterator[ManifestCache]:
    """All snapshots that are known. Raises NothingFound if there is none."""
    exchange = fetch_catalogs(config, (resource,))
    copies = found(config, resource.name, exchange)
    if not copies:
        hint = without_backup(other_resources(config), exchange.unread)
        raise NoBackup(f"{resource.name}: no backup is known here", hint)
    names = dict.fromkeys(one.copy.snapshot for one in copies)
    snapshots = {name: tuple(one for one in copies if one.copy.snapshot == name) for name in names}
    with scratch_folder(config) as scratch, ExitStack() as stack:
        yield ManifestCache(config=config, resource=resource, snapshots=snapshots, scratch=scratch, stack=stack)
