"""`find`: which snapshots hold which versions of a path, from the manifests of all copies that can be read.

Each snapshot is looked through once, on the nearest medium that gives its manifest. What could not be looked through is
part of the answer: a version that is not shown is not proven to be nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from drbdbackup.catalog import view
from drbdbackup.catalog.unconfigured_resources import other_resources, without_backup
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import NoBackup, NothingFound, UsageError
from drbdbackup.model.amount import count
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.copies.choose import PassedOver, Way, passed_over_lines, way
from drbdbackup.pipeline.copies.known_copies import fetch_catalogs
from drbdbackup.pipeline.copies.read_copy import CopyAccess, run_read_job
from drbdbackup.pipeline.copies.read_protocol import Unread
from drbdbackup.pipeline.explore.find_protocol import FIND, FindEvent, FindJob, Searched, VersionFound
from drbdbackup.pipeline.explore.versions import History, Version, histories


class FoundVersions(Struct, frozen=True):
    """The histories of all paths that are meant. `snapshots` are those that were looked through, newest first, each as
    a copy that was read; `unread` are copies of the others, and why they could not be.
    """

    resource: str
    pattern: str
    histories: tuple[History, ...]
    snapshots: tuple[Copy, ...]
    unread: tuple[PassedOver, ...]


class _Search(Struct):
    """What was read so far, by snapshot: the copy, and what is meant in it by path. `failed` is why a copy was not."""

    read: dict[str, Copy] = field(default_factory=dict)
    seen: dict[str, dict[str, Version]] = field(default_factory=dict)
    failed: list[PassedOver] = field(default_factory=list)


def find(config: Config, resource: ResourceConfig, pattern: str) -> FoundVersions:
    """Look through every snapshot. Raises UsageError for a pattern that means nothing or too much, NothingFound."""
    wanted = _relative(resource, pattern)
    exchange = fetch_catalogs(config, (resource,))
    copies = view.configured(config, resource.name)
    if not copies:
        hint = without_backup(other_resources(config), exchange.unread)
        raise NoBackup(f"{resource.name}: no backup is known here", hint)
    search, access = _Search(), CopyAccess(config)
    for batch in _batches(copies, config.node):
        _look_through(access, [copy for copy in batch if copy.snapshot not in search.read], wanted, search)
    order = list(dict.fromkeys(copy.snapshot for copy in copies))
    unread = tuple(passed for passed in search.failed if passed.copy.snapshot not in search.read)
    found = FoundVersions(
        resource.name, wanted, histories(search.seen, order),
        tuple(search.read[name] for name in order if name in search.read), unread,
    )  # fmt: skip
    if not found.histories:
        plain = "A name is looked for everywhere, a path from the volume's top; a part of a name is '*part*'."
        hint = f"Not looked through:\n{passed_over_lines(unread)}" if unread else plain
        searched = f"; {count(len(found.snapshots), 'snapshot')} searched"
        raise NothingFound(f"no snapshot holds '{pattern}'{searched}", hint)
    return found


def _relative(resource: ResourceConfig, pattern: str) -> str:
    """The pattern from the volume's top. Raises UsageError for one that is not in the volume."""
    inside = pattern.removeprefix(resource.source.rstrip("/") + "/") if pattern.startswith("/") else pattern
    plain = inside.removeprefix("./").rstrip("/")
    if not plain or plain.startswith("/") or ".." in plain.split("/") or "\0" in plain:
        raise UsageError(f"{pattern!r} is not in the volume", "Use a name, or a path relative to the volume.")
    return plain


def _batches(copies: Sequence[Copy], node: str) -> Iterator[list[Copy]]:
    """Copies that one job looks through: those of one medium, the nearest first; a peer's each by itself."""
    media: dict[tuple[bool, int, str, str], list[Copy]] = {}
    for copy in copies:
        how = way(copy, node)
        alone_there = copy.snapshot if how is Way.PEER else ""
        media.setdefault((copy.damaged_at is not None, how.value, copy.medium, alone_there), []).append(copy)
    yield from (media[key] for key in sorted(media, key=lambda key: key[:2]))


def _look_through(access: CopyAccess, batch: list[Copy], pattern: str, search: _Search) -> None:
    """Let a cage look through copies of one medium; a snapshot counts when the cage has come to its end."""
    if not batch:
        return
    by_name = {copy.snapshot: copy for copy in batch}
    answered: set[str] = set()
    pending: dict[str, dict[str, Version]] = {}

    def on_event(event: FindEvent) -> None:
        match event:
            case VersionFound(snapshot=name, path=path, version=version):
                pending.setdefault(name, {})[path] = version
            case Searched(snapshot=name):
                answered.add(name)
                search.read[name], search.seen[name] = by_name[name], pending.pop(name, {})
            case Unread(snapshot=name, why=why):
                answered.add(name)
                search.failed.append(PassedOver(by_name[name], why))

    def look() -> None:
        run_read_job(
            FIND, access, batch[0], lambda here, at: FindJob(
                here=here, copy=at, pattern=os.fsencode(pattern), snapshots=tuple(by_name),
            ), on_event, others=batch[1:],
        )  # fmt: skip

    if closed := access.why_not(batch[0], look):
        search.failed += [PassedOver(copy, closed) for name, copy in by_name.items() if name not in answered]
