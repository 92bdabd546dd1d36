"""`target list` and `target accept`: which medium each target is, and which one it is from now on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from drbdbackup import lock
from drbdbackup.catalog import bodies, key_sheets, store, view
from drbdbackup.catalog.bodies import subject
from drbdbackup.config import select
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import DrbdBackupError, Failure, UsageError
from drbdbackup.lock import lock_file
from drbdbackup.pipeline.cage.supervisor import Patience, attend
from drbdbackup.pipeline.target.inspect_protocol import INSPECT, TargetLook
from drbdbackup.pipeline.target.inspect_target import LOOK, inspection, look
from drbdbackup.tools import mounts, restic


class TargetSeen(Struct, frozen=True):
    """A target: what the catalog expects there, what a look at it found (None if that failed, then `error` says why).

    `mounted` is whether something is mounted where the configuration says, now; a disk is only while it is used.
    """

    config: TargetConfig
    location: str
    expected: dict[str, Any] | None
    mounted: bool
    found: TargetLook | None
    error: DrbdBackupError | None


class AcceptedTarget(Struct, frozen=True):
    """A target's new medium, and the one that it was (None if there was none)."""

    name: str
    medium: str
    location: str
    before: str | None


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
    return tuple(_seen(config, one, mounts.mounted_at(table, one.folder) is not None) for one in config.targets)


def accept(config: Config, name: str) -> AcceptedTarget:
    """Mark the medium that is there now as target `name` and expect it from now on.

    Raises Locked while a run is at work, UsageError for an unknown name, TargetError if it cannot be opened.
    """
    target = select.targets(config, [name])[0]
    with lock.held(lock_file(config)):
        before = view.expected(config, target)
        found = attend(INSPECT, target.name, inspection(config, target, accept=True), Patience.within(LOOK))
        named = subject(target, config.node)
        at = view.moment_to_correct(config.state_dir, named)
        fact = bodies.expected(config.node, at, named, found.as_expected(target.kind))
        store.record(config.state_dir, config.node, [fact])
    return AcceptedTarget(name, found.medium, found.location, before["medium"] if before else None)


def key_sheet(config: Config, name: str) -> KeySheet:
    """What somebody needs who has nothing but this; that it was asked for is recorded.

    It asks nobody, so that it can be had while the server is down. Raises UsageError, TargetError.
    """
    target = select.targets(config, [name])[0]
    if target.has_tree:
        raise UsageError(f"{name} has no key: its copies lie there as files", "`drbdbackup target list` shows kinds.")
    at = restic.access(target.repository_file, target.password_file, target.env_file, target.cache_folder)
    medium, now = str((view.expected(config, target) or {}).get("medium", "")), datetime.now(UTC)
    if medium:
        store.record(config.state_dir, config.node, [key_sheets.printed(config.node, now, name, medium)])
    return KeySheet(
        name=name, kind=target.kind, medium=medium, repository=at.repository, password=at.password, env=at.env,
        node=config.node, printed_at=now, resources=tuple(one.name for one in config.resources),
    )  # fmt: skip


def _seen(config: Config, target: TargetConfig, mounted: bool) -> TargetSeen:
    expected = view.expected(config, target)
    where = target.location(config.node)
    try:
        found = look(config, target)
    except Failure as error:
        return TargetSeen(target, where, expected, mounted, None, error)
    return TargetSeen(target, where, expected, mounted, found, None)
