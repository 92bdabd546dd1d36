"""The room on each target against what the next night needs, and whether the target is there at all.

A share is asked in a process that may be abandoned. A disk is mounted only while it is used, so only its file system's
UUID is looked at: how full it is, its last use has found out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.catalog import free_space, view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.doctor import media
from drbdbackup.doctor.media import Need
from drbdbackup.errors import DrbdBackupError, Failure, WrongTarget
from drbdbackup.health.judge import TargetRoom
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.pipeline.backup.run_facts import may_go_first
from drbdbackup.targets import abilities, device, identity, sidecar, target
from drbdbackup.tools import blkid


def target_rooms(config: Config, copies: Sequence[Copy]) -> tuple[TargetRoom, ...]:
    """Look at all targets at once, within the deadline of an answer; `copies` are those of all resources."""
    looks = {one.name: _looking(config, one, _newest_on(config, one, copies)) for one in config.targets}
    seen = proc.probe_all(looks, min(config.limits.answer, config.limits.probe))
    return tuple(_room(config, one, seen[one.name], copies) for one in config.targets)


def _room(config: Config, place: TargetConfig, seen: Any, copies: Sequence[Copy]) -> TargetRoom:
    if isinstance(seen, DrbdBackupError):
        return TargetRoom(target=place.name, problem=seen.message)
    if seen is not None:
        free, total, inodes, medium, links = seen
        need = _need(config, place, copies, medium, links=links)
        return TargetRoom(target=place.name, free=free, total=total, need=need, free_inodes=inodes)
    medium = view.expected_medium(config, place)
    last = free_space.on(config.state_dir, medium) if place.is_mounted_for_use else None
    if last is None:
        return TargetRoom(target=place.name, is_asked=place.has_tree)
    need = _need(config, place, copies, medium, links=last.links)
    return TargetRoom(
        target=place.name, free=last.free, total=last.total, need=need, free_inodes=last.free_inodes, seen_at=last.at
    )  # fmt: skip


def _need(config: Config, place: TargetConfig, copies: Sequence[Copy], medium: str, *, links: bool) -> Need | None:
    """What the next night needs there of all resources; None also where its last copies give way to the new ones."""
    if place.on_full == "replace":
        return None
    needs: list[Need | None] = []
    for resource in config.resources:
        known = [copy for copy in copies if copy.resource == resource.name]
        need = media.need(known, place.name, medium, links=links)
        if need is not None and not links:
            freed = _makes_way(config, place, [copy for copy in known if copy.medium == medium])
            need = Need(max(0, need.usual - freed), max(0, need.likely - freed), full=True)
        needs.append(need)
    return media.together(needs)


def _makes_way(config: Config, place: TargetConfig, here: Sequence[Copy]) -> int:
    """Bytes of whole copies that a run drops before it makes a new one. What shared ones would give nobody knows."""
    if not here:
        return 0
    now, newest = datetime.now(UTC), here[0]
    coming = replace(
        newest, snapshot=snapshot_name(now, config.node), sequence=newest.sequence + 1, started_at=now,
        verified_at=None, damaged_at=None, problems=0,
    )  # fmt: skip
    gone = {snapshot for snapshot, _ in may_go_first(here, coming, place.retention, now)}
    return sum(copy.bytes for copy in here if copy.snapshot in gone)


def _newest_on(config: Config, place: TargetConfig, copies: Sequence[Copy]) -> Copy | None:
    there = (copy for copy in copies if copy.target == place.name and copy.holder == place.holder(config.node))
    return next(there, None)


def _looking(config: Config, place: TargetConfig, newest: Copy | None) -> Callable[[], Any]:
    """What looks at a target; it is for a probe. Its answer: [bytes free, in all, inodes free, the medium, whether it
    links].
    """
    expected = view.expected(config, place)

    def look_at_device() -> None:
        device.check(place.address)
        uuid, wanted = blkid.filesystem(place.address).uuid, expected.filesystem_uuid if expected else ""
        if wanted and uuid != wanted:
            raise WrongTarget(f"{place.address} is the file system {uuid}, {wanted} is expected")

    def look_at_folder() -> list[Any]:
        with target(place).opened(config.node, write=False) as medium:
            if objection := identity.objection_to(medium, expected, config.node):
                raise WrongTarget(objection)
            space = os.statvfs(medium.root)
            free, total = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
            inodes = space.f_favail if space.f_files else None
            return [free, total, inodes, medium.identity.medium if medium.identity else "", _links(newest)]

    if not place.has_tree:  # the way there is long, and its room nobody knows: a run and the doctor ask it
        return lambda: None
    return look_at_device if place.is_mounted_for_use else look_at_folder


def _links(newest: Copy | None) -> bool:
    """Whether unchanged files take no room again, as the last run there found out; yes if that is not known."""
    if newest is not None:
        with suppress(Failure, OSError):
            recorded = sidecar.read(os.path.dirname(newest.path))
            return not any(
                word.startswith("hard links") for word in abilities.from_document(recorded.abilities).lacks()
            )
    return True
