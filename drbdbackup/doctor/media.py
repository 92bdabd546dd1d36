"""The targets: mounted (or not, for a disk), the medium that each was, and room for what the next night needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from drbdbackup.config.values import TargetConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.model.amount import size
from drbdbackup.model.backup import Copy
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline.target.inspect_protocol import TargetLook
from drbdbackup.targets import device

_LOOKED_BACK = 8  # copies whose growth is looked at
_SHARE = 10  # a night that changes more than this part of the volume is a rare one


class Need(Struct, frozen=True):
    """What the next night needs on a medium, in bytes: what it usually is, and what it may well be."""

    usual: int
    likely: int
    full: bool


class MediumFacts(Struct, frozen=True, kw_only=True):
    """What a look at a target found (see `target.inspect_job`), or `problem` and `hint` where it could not be opened.

    `mounted` is where the disk is mounted outside a run, "" if it is not. `lacking` are the newest copies on it of
    each resource, those that have problems. `clones` are other devices with the same file system.
    """

    target: TargetConfig
    problem: str = ""
    hint: str = ""
    medium: str = ""
    objection: str = ""
    free: int = 0
    total: int = 0
    mounted: str = ""
    need: Need | None = None
    lacking: tuple[Copy, ...] = ()
    clones: tuple[str, ...] = ()

    @property
    def is_the_one(self) -> bool:
        """Whether it is a marked medium, and the one that it was."""
        return bool(self.medium) and not self.objection and not self.problem


def closed(target: TargetConfig, problem: str, hint: str, table: Sequence[Mount]) -> MediumFacts:
    """The facts of one that could not be opened; `table` is the mount table."""
    return MediumFacts(target=target, problem=problem, hint=hint, mounted=_mounted_at(target, table))


def opened(
    target: TargetConfig, found: TargetLook, need: Need | None, table: Sequence[Mount], lacking: tuple[Copy, ...] = ()
) -> MediumFacts:
    """The facts of one that could, from the answer of the look at it."""
    return MediumFacts(
        target=target, problem="", hint="", medium=found.medium, objection=found.objection, free=found.free_bytes,
        total=found.total_bytes, mounted=_mounted_at(target, table), need=need, lacking=lacking,
        clones=tuple(device.clones(target.address, found.filesystem_uuid)) if target.is_mounted_for_use else (),
    )  # fmt: skip


def _mounted_at(target: TargetConfig, table: Sequence[Mount]) -> str:
    shown = (mount.point for mount in table if target.is_mounted_for_use and device.shows(mount, target.address))
    return next(shown, "")


def need(copies: Sequence[Copy], target: str, medium: str, *, links: bool) -> Need | None:
    """What the next copy of one resource needs on a medium; None as long as there is no copy anywhere.

    `copies` are all that are known, newest first. Where the medium holds one that unchanged files are linked from, only
    what grows and changes is needed.
    """
    known = [copy for copy in copies if copy.damaged_at is None]
    if not known:
        return None
    whole = known[0].bytes
    here = [copy for copy in known if copy.target == target and copy.medium == medium][:_LOOKED_BACK]
    if not here or not links:
        return Need(whole, whole, full=True)
    growth = sorted(max(0, newer.bytes - older.bytes) for newer, older in pairwise(here)) or [0]
    return Need(growth[len(growth) // 2], max(growth[-1], whole // _SHARE), full=False)


def together(needs: Sequence[Need | None]) -> Need | None:
    """What all resources need on one medium."""
    known = [one for one in needs if one is not None]
    if not known:
        return None
    return Need(sum(one.usual for one in known), sum(one.likely for one in known), any(one.full for one in known))


def judge(facts: MediumFacts) -> list[Finding]:
    """The medium, where it is mounted, and its room."""
    return [_medium(facts), *_mounted(facts), *_room(facts), *_whole(facts)]


def _medium(facts: MediumFacts) -> Finding:
    target = facts.target
    check = Check("target", target.name)
    if facts.problem:
        return check.fail(facts.problem, facts.hint or target.closed_hint)
    if facts.objection:
        remedy = f"Mount the right one, or, if this is to be it from now on: drbdbackup target accept {target.name}"
        return check.fail(f"it is not the medium that it was: {facts.objection}", remedy)
    if facts.clones:
        others = ", ".join(facts.clones)
        return check.fail(f"{others} holds the same file system: a clone", device.clone_hint(list(facts.clones)))
    if not facts.medium:
        return check.warn("it is not marked yet", "The first `drbdbackup run` on the Primary marks it.")
    return check.ok(f"it is the medium {facts.medium}")


def _mounted(facts: MediumFacts) -> Iterator[Finding]:
    target = facts.target
    check = Check("not mounted", target.name)
    if not target.is_mounted_for_use:
        return
    if facts.mounted:
        because = f"{target.address} is mounted at {facts.mounted}: whatever deletes there deletes copies"
        yield check.warn(because, f"umount {facts.mounted}, and take it out of /etc/fstab: a run mounts it by itself.")
    elif not facts.problem:
        yield check.ok(f"{target.address} is mounted only while it is used")


def _room(facts: MediumFacts) -> Iterator[Finding]:
    check, need = Check("room", facts.target.name), facts.need
    if facts.problem or facts.objection or not facts.total:
        return
    free = f"{size(facts.free)} of {size(facts.total)} are free"
    remedy = "Get a larger one, let it keep fewer copies ([retention], then `drbdbackup prune`), or exclude something."
    if need is None:
        yield check.ok(f"{free}; what a copy needs is known after the first one")
    elif facts.free < need.usual:
        what = "a whole copy" if need.full else "what the volume grows by in a night"
        yield check.fail(f"{free}; {what} needs {size(need.usual)}", remedy)
    elif facts.free < need.likely:
        yield check.warn(f"{free}; a night with many changes needs {size(need.likely)}", remedy)
    else:
        yield check.ok(f"{free}; the next copy needs about {size(need.likely)}")


def _whole(facts: MediumFacts) -> Iterator[Finding]:
    """What the last copies lacked the next ones will lack, unless somebody does something about it."""
    for copy in facts.lacking:
        because = f"{copy.snapshot} of {copy.resource} lacks something of {copy.problems:,} entries"
        remedy = f"{os.path.dirname(copy.path)}/snapshot.json names them; `drbdbackup run --dry-run` foresees them."
        yield Check("whole", facts.target.name).warn(because, remedy)
