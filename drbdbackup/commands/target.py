"""`target list` and `target accept`: which medium each target is, and which one it is from now on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drbdbackup import lock
from drbdbackup.catalog import bodies, store, view
from drbdbackup.commands import chosen
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.errors import DrbdBackupError, Stopped
from drbdbackup.pipeline import cage
from drbdbackup.pipeline.looking import LOOK, inspection, look
from drbdbackup.pipeline.roads import subject
from drbdbackup.tools import mounts


@dataclass(frozen=True, slots=True)
class TargetSeen:
    """A target: what the catalog expects there, what a look at it found (None if that failed, then `error` says why).

    `mounted` is whether something is mounted where the configuration says, now; a disk is only while it is used.
    """

    config: TargetConfig
    location: str
    expected: dict[str, Any] | None
    mounted: bool
    found: dict[str, Any] | None
    error: DrbdBackupError | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A target's new medium, and the one that it was (None if there was none)."""

    name: str
    medium: str
    location: str
    before: str | None


def listing(config: Config) -> tuple[TargetSeen, ...]:
    """Look at every target; one that cannot be opened is listed with the reason."""
    table = mounts.table()
    return tuple(_seen(config, one, mounts.mounted_at(table, place(one)) is not None) for one in config.targets)


def accept(config: Config, name: str) -> Accepted:
    """Mark the medium that is there now as target `name` and expect it from now on.

    Raises Locked while a run is at work, UsageError for an unknown name, TargetError if it cannot be opened.
    """
    target = chosen.targets(config, [name])[0]
    with lock.held(lock_file(config)):
        before = view.expected_target(config.state_dir, subject(target, config.node))
        found = cage.ask(target.name, inspection(config, target, accept=True), LOOK)
        body = {key: found[key] for key in ("medium", "filesystem_uuid", "location")} | {"kind": target.kind}
        named = subject(target, config.node)
        fact = bodies.expected(config.node, view.moment_to_correct(config.state_dir, named), named, body)
        store.record(config.state_dir, config.node, [fact])
    return Accepted(name, found["medium"], found["location"], before["medium"] if before else None)


def place(target: TargetConfig) -> str:
    """The folder where it is when it is mounted."""
    return target.mountpoint if target.kind == "disk" else target.path


def _seen(config: Config, target: TargetConfig, mounted: bool) -> TargetSeen:
    expected = view.expected_target(config.state_dir, subject(target, config.node))
    where = f"{config.node}:{target.device}" if target.kind == "disk" else f"{target.name}:{target.path}"
    try:
        found = look(config, target)
    except Stopped:
        raise
    except DrbdBackupError as error:
        return TargetSeen(target, where, expected, mounted, None, error)
    return TargetSeen(target, where, expected, mounted, found, None)
