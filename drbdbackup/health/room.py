"""The room on each target against what the next night needs, and whether the target is there at all.

A share is asked in a process that may be abandoned. A disk is mounted only while it is used, so only its file system's
UUID is looked at: how full it is, a run and the doctor find out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from drbdbackup import proc
from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.doctor import media
from drbdbackup.errors import DrbdBackupError, Failure, WrongTarget
from drbdbackup.health.judge import TargetRoom
from drbdbackup.model.backup import Copy
from drbdbackup.targets import abilities, device, identity, sidecar, target
from drbdbackup.tools import blkid


def target_rooms(config: Config, copies: Sequence[Copy]) -> tuple[TargetRoom, ...]:
    """Look at all targets at once, within the deadline of an answer; `copies` are those of all resources."""
    looks = {one.name: _looking(config, one, _newest_on(config, one, copies)) for one in config.targets}
    seen = proc.probe_all(looks, min(config.limits.answer, config.limits.probe))
    return tuple(_room(config, one, seen[one.name], copies) for one in config.targets)


def _room(config: Config, place: TargetConfig, seen: Any, copies: Sequence[Copy]) -> TargetRoom:
    if isinstance(seen, DrbdBackupError):
        return TargetRoom(place.name, problem=seen.message)
    if seen is None:
        return TargetRoom(place.name)
    free, total, medium, links = seen
    by_resource = [[copy for copy in copies if copy.resource == one.name] for one in config.resources]
    needs = [media.need(known, place.name, medium, links=links) for known in by_resource]
    return TargetRoom(place.name, free, total, media.together(needs))


def _newest_on(config: Config, place: TargetConfig, copies: Sequence[Copy]) -> Copy | None:
    there = (copy for copy in copies if copy.target == place.name and copy.holder == place.holder(config.node))
    return next(there, None)


def _looking(config: Config, place: TargetConfig, newest: Copy | None) -> Callable[[], Any]:
    """What looks at a target; it is for a probe. Its answer: [bytes free, in all, the medium, whether it links]."""
    expected = view.expected(config, place) or {}

    def look_at_device() -> None:
        device.check(place.address)
        uuid, wanted = blkid.filesystem(place.address).uuid, expected.get("filesystem_uuid")
        if wanted and uuid != wanted:
            raise WrongTarget(f"{place.address} is the file system {uuid}, {wanted} is expected")

    def look_at_folder() -> list[Any]:
        with target(place).opened(config.node, write=False) as medium:
            if objection := identity.objection_to(medium, expected, config.node):
                raise WrongTarget(objection)
            space = os.statvfs(medium.root)
            free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
            return [free, total, medium.identity.medium if medium.identity else "", _links(newest)]

    if not place.has_tree:  # the way there is long, and its room nobody knows: a run and the doctor ask it
        return lambda: None
    return look_at_device if place.is_mounted_for_use else look_at_folder


def _links(newest: Copy | None) -> bool:
    """Whether unchanged files take no room again, as the last run there found out; yes if that is not known."""
    if newest is not None:
        with suppress(Failure, OSError):
            told = sidecar.read(os.path.dirname(newest.path))
            return not any(word.startswith("hard links") for word in abilities.from_document(told.abilities).lacks())
    return True
