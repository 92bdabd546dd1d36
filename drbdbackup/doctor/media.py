"""The targets: mounted (or not, for a disk), the medium that each was, and room for what the next night needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from drbdbackup.config.values import TargetConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.model.backup import Copy
from drbdbackup.model.mount import Mount
from drbdbackup.targets import device
from drbdbackup.tools import mounts

_LOOKED_BACK = 8  # copies whose growth is looked at
_SHARE = 10  # a night that changes more than this part of the volume is a rare one


@dataclass(frozen=True, slots=True)
class Need:
    """What the next night needs on a medium, in bytes: what is certain, and what may well be."""

    certain: int
    likely: int
    full: bool


@dataclass(frozen=True, slots=True)
class MediumFacts:
    """What a look at a target found (see `pipeline.inspect`), or `problem` and `hint` where it could not be opened.

    `mounted` is where the disk is mounted outside a run, `foreign` what else is mounted at its mountpoint; "" if not.
    """

    target: TargetConfig
    problem: str = ""
    hint: str = ""
    medium: str = ""
    expected: str = ""
    objection: str = ""
    free: int = 0
    total: int = 0
    mounted: str = ""
    foreign: str = ""
    need: Need | None = None


def gather(
    target: TargetConfig, found: Mapping[str, Any] | tuple[str, str], expected: str, table: Sequence[Mount],
    need: Need | None,
) -> MediumFacts:  # fmt: skip
    """`found` is the answer of a look at it, or problem and hint; `table` is the mount table."""
    mounted, foreign = _mounts(target, table) if target.kind == "disk" else ("", "")
    if isinstance(found, tuple):
        return MediumFacts(target, *found, expected=expected, mounted=mounted, foreign=foreign)
    return MediumFacts(
        target, "", "", found["medium"], expected, found["objection"], found["free_bytes"], found["total_bytes"],
        mounted, foreign, need,
    )  # fmt: skip


def _mounts(target: TargetConfig, table: Sequence[Mount]) -> tuple[str, str]:
    """Where the disk is mounted, and what else is where it should come."""
    shown = next((mount.point for mount in table if device.shows(mount, target.device)), "")
    there = mounts.mounted_at(table, target.mountpoint)
    foreign = there.source if there is not None and not device.shows(there, target.device) else ""
    return shown, foreign


def need(copies: Sequence[Copy], target: str, medium: str, *, links: bool, size: int | None) -> Need | None:
    """What the next copy of one resource needs on a medium; None where nothing is known of the volume's size.

    `copies` are all that are known, newest first; `size` is what the volume holds, where this node can see it. Where
    the medium holds a copy that unchanged files are linked from, only what grows and changes is needed.
    """
    known = [copy for copy in copies if copy.damaged_at is None]
    size = known[0].bytes if known else size
    if size is None:
        return None
    here = [copy for copy in known if copy.target == target and copy.medium == medium][:_LOOKED_BACK]
    if not here or not links:
        return Need(size, size, full=True)
    growth = max([0, *(newer.bytes - older.bytes for newer, older in pairwise(here))])
    return Need(growth, max(2 * growth, size // _SHARE), full=False)


def together(needs: Sequence[Need | None]) -> Need | None:
    """What all resources need on one medium."""
    known = [one for one in needs if one is not None]
    if not known:
        return None
    return Need(sum(one.certain for one in known), sum(one.likely for one in known), any(one.full for one in known))


def judge(facts: MediumFacts) -> list[Finding]:
    """The medium, where it is mounted, and its room."""
    return [_medium(facts), *_mounted(facts), *_room(facts)]


def _medium(facts: MediumFacts) -> Finding:
    target = facts.target
    check = Check("target", target.name)
    if facts.problem:
        return check.fail(facts.problem, facts.hint or "drbdbackup target list")
    if facts.objection:
        remedy = f"Mount the right one, or, if this is to be it from now on: drbdbackup target accept {target.name}"
        return check.fail(f"it is not the medium that it was: {facts.objection}", remedy)
    if not facts.medium:
        return check.warn("it is not marked yet", "The first `drbdbackup run` on the Primary marks it.")
    return check.ok(f"it is the medium {facts.medium}")


def _mounted(facts: MediumFacts) -> Iterator[Finding]:
    target = facts.target
    check = Check("not mounted", target.name)
    if target.kind != "disk" or facts.foreign:  # what is in its place, opening it has said
        return
    if facts.mounted:
        because = f"{target.device} is mounted at {facts.mounted}: whatever deletes there deletes copies"
        yield check.warn(because, f"umount {facts.mounted}, and take it out of /etc/fstab: a run mounts it by itself.")
    elif not facts.problem:
        yield check.ok(f"{target.device} is mounted only while it is used")


def _room(facts: MediumFacts) -> Iterator[Finding]:
    check, need = Check("room", facts.target.name), facts.need
    if facts.problem or facts.objection:
        return
    free = f"{_mib(facts.free)} of {_mib(facts.total)} are free"
    remedy = "Get a larger one, let it keep fewer copies ([retention], then `drbdbackup prune`), or exclude something."
    if need is None:
        yield check.ok(f"{free}; what a copy needs is known after the first one")
    elif facts.free < need.certain:
        what = "a whole copy" if need.full else "what the volume grows by"
        yield check.fail(f"{free}; {what} needs {_mib(need.certain)}", remedy)
    elif facts.free < need.likely:
        yield check.warn(f"{free}; a night with many changes needs {_mib(need.likely)}", remedy)
    else:
        yield check.ok(f"{free}; the next copy needs about {_mib(need.likely)}")


def _mib(count: int) -> str:
    return f"{count / (1 << 30):,.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):,.1f} MiB"
