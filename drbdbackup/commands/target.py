"""`target list` and `target accept`: which medium each target is, and which one it is from now on.

`accept` is the only way to exchange a medium: nothing else may do that, or a wrong disk would be written to.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from msgspec import Struct

from drbdbackup import lock
from drbdbackup.catalog import bodies, key_sheets, store, view
from drbdbackup.catalog.bodies import subject
from drbdbackup.config import select
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import DrbdBackupError, Failure, UsageError
from drbdbackup.lock import lock_file
from drbdbackup.model.medium import KnownMedium
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.target.inspect_protocol import INSPECT, SidecarRead, TargetLook
from drbdbackup.pipeline.target.inspect_target import LOOK, inspection, look
from drbdbackup.tools import mounts, restic


class TargetSeen(Struct, frozen=True):
    """A target: what the catalog expects there, what a look at it found (None if that failed, then `error` says why).

    `mounted` is whether something is mounted where the configuration says, now; a disk is only while it is used.
    """

    config: TargetConfig
    location: str
    expected: KnownMedium | None
    mounted: bool
    found: TargetLook | None
    error: DrbdBackupError | None


class AcceptedSnapshots(Struct, frozen=True):
    """The snapshots of a resource on the medium that was accepted, by name.

    `unknown` are those of `there` that are not in the catalog; `missing` are in the catalog, and not on the medium.
    """

    resource: str
    there: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]


class AcceptedTarget(Struct, frozen=True):
    """A target's new medium, the one that it was (None if there was none), and what lies on the new one."""

    name: str
    medium: str
    location: str
    before: str | None
    snapshots: tuple[AcceptedSnapshots, ...] = ()


class KeySheet(Struct, frozen=True, kw_only=True):
    """The sheet for the safe. `medium` is the repository's id, "" as long as it was never used; `env` has its server's
    keys.
    """

    name: str
    kind: str
    medium: str
    repository: str
    password: str
    env: tuple[tuple[str, str], ...]
    node: str
    printed_at: datetime
    resources: tuple[str, ...]


def listing(config: Config) -> tuple[TargetSeen, ...]:
    """Look at every target; one that cannot be opened is listed with the reason."""
    table = mounts.table()
    return tuple(
        _seen(config, one, mounted=mounts.mounted_at(table, one.folder) is not None) for one in config.targets
    )


def accept(config: Config, name: str) -> AcceptedTarget:
    """Mark the medium that is there now as target `name` and expect it from now on.

    Raises Locked while a run is at work, UsageError for an unknown name, TargetError if it cannot be opened.
    """
    target = select.targets(config, [name])[0]
    with lock.held(lock_file(config)):
        before = view.expected(config, target)
        there: dict[str, list[str]] = {resource.name: [] for resource in config.resources}
        job, patience = inspection(config, target, accept=True, sidecars=True), Patience.within(LOOK)
        found = run_job(INSPECT, target.name, job, patience, lambda event: _noted(event, there))
        named = subject(target, config.node)
        at = view.moment_to_correct(config.state_dir, named)
        fact = bodies.expected(config.node, at, named, found.known_as(target.kind))
        store.record(config.state_dir, config.node, [fact])
    known = view.known_subjects(config.state_dir)
    snapshots = (_accepted(config, target, found.medium, one, names, known) for one, names in sorted(there.items()))
    was = before.medium if before else None
    return AcceptedTarget(name, found.medium, found.location, was, tuple(one for one in snapshots if one))


def _noted(event: SidecarRead, there: dict[str, list[str]]) -> None:
    there.setdefault(str(event.sidecar["resource"]), []).append(str(event.sidecar["snapshot"]))


def _accepted(
    config: Config, target: TargetConfig, medium: str, resource: str, names: list[str], known: Collection[str]
) -> AcceptedSnapshots | None:
    """What is to be said of a resource; nothing if there is nothing of it, nor was."""
    copies = (*view.configured(config, resource, adopted=True), *view.configured_safety(config, resource))
    was = {one.snapshot for one in copies if one.target == target.name and one.holder in ("", config.node)}
    missing = tuple(sorted(was.difference(names)))
    unknown = tuple(name for name in sorted(names) if f"{medium}/{resource}/{name}" not in known)
    if not (names or missing):
        return None
    return AcceptedSnapshots(resource, tuple(sorted(names)), unknown, missing)


def key_sheet(config: Config, name: str) -> KeySheet:
    """What somebody needs who has nothing but this; that it was asked for is recorded.

    It asks nobody, so that it can be had while the server is down. Raises UsageError, TargetError.
    """
    target = select.targets(config, [name])[0]
    if target.has_tree:
        raise UsageError(f"{name} has no key: its copies lie there as files", "`drbdbackup target list` shows kinds.")
    at = restic.access(target.repository_file, target.password_file, target.env_file, target.cache_folder)
    medium, now = view.expected_medium(config, target), datetime.now(UTC)
    if medium:
        store.record(config.state_dir, config.node, [key_sheets.printed(config.node, now, name, medium)])
    return KeySheet(
        name=name, kind=target.kind, medium=medium, repository=at.repository, password=at.password, env=at.env,
        node=config.node, printed_at=now, resources=tuple(one.name for one in config.resources),
    )  # fmt: skip


def _seen(config: Config, target: TargetConfig, *, mounted: bool) -> TargetSeen:
    expected = view.expected(config, target)
    where = target.location(config.node)
    try:
        found = look(config, target)
    except Failure as error:
        return TargetSeen(target, where, expected, mounted, None, error)
    return TargetSeen(target, where, expected, mounted, found, None)
