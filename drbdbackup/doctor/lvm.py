"""What a resource with `snapshot = "lvm"` needs: a logical volume below it, room beside that, and nothing left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drbdbackup import proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.amount import size
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline import backing
from drbdbackup.pipeline.backing import Backing
from drbdbackup.tools import mounts


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """`found` is what lies below the resource, or `problem` says why that is not known; `live` is what is mounted at
    its source, if anything is. `is_at_work`: a run has the lock, and its snapshot is no leftover.
    """

    resource: ResourceConfig
    found: Backing | None = None
    problem: DrbdBackupError | None = None
    live: Mount | None = None
    can_cage: bool = True
    is_at_work: bool = False


def gather(config: Config, resource: ResourceConfig, table: Sequence[Mount], *, is_at_work: bool) -> SnapshotFacts:
    """Ask DRBD and LVM; `table` is the mount table."""
    live, can_cage = mounts.mounted_at(table, resource.source), proc.can_cage()
    try:
        found = backing.below(resource, config.role.timeout)
    except DrbdBackupError as error:
        return SnapshotFacts(resource, None, error, live, can_cage, is_at_work)
    return SnapshotFacts(resource, found, None, live, can_cage, is_at_work)


def judge(facts: SnapshotFacts) -> Iterator[Finding]:
    """Whether a snapshot could be made now, and whether one is left that nobody uses."""
    check, found = Check("snapshot", facts.resource.name), facts.found
    if not facts.can_cage:
        yield check.fail("it needs mount namespaces", "Run it as root, and not in a container.")
        return
    if found is None:
        yield check.fail(facts.problem.message if facts.problem else "", facts.problem.hint if facts.problem else "")
        return
    try:
        if facts.live:
            backing.check_mount(facts.live, facts.resource)
        found.check()
    except DrbdBackupError as error:
        yield check.fail(error.message, error.hint)
    else:
        room = f"{size(found.needs)} of the {size(found.volume.free)} that {found.volume.group} has left"
        yield check.ok(f"{found.volume.full_name} lies below it, and a snapshot takes {room}")
    if found.left and not facts.is_at_work:
        names = " ".join(one.full_name for one in found.left)
        yield check.warn("a run that was killed has left a snapshot", f"The next run removes it; or lvremove {names}")
