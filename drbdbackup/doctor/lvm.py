"""What a resource with `snapshot = "lvm"` needs: a logical volume below it, room beside that, and nothing left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import DrbdBackupError, Failure
from drbdbackup.model.amount import size
from drbdbackup.model.mount import Mount
from drbdbackup.pipeline.volume import lvm_volume
from drbdbackup.pipeline.volume.lvm_volume import BackingVolume
from drbdbackup.tools import lvm, mounts


class SnapshotFacts(Struct, frozen=True):
    """`found` is what lies below the resource, or `problem` says why that is not known; `live` is what is mounted at
    its source, if anything is. `is_at_work`: a run has the lock, and its snapshot is no leftover.
    """

    resource: ResourceConfig
    found: BackingVolume | None = None
    problem: DrbdBackupError | None = None
    live: Mount | None = None
    can_cage: bool = True
    is_at_work: bool = False


def gather(config: Config, resource: ResourceConfig, table: Sequence[Mount], *, is_at_work: bool) -> SnapshotFacts:
    """Ask DRBD and LVM; `table` is the mount table."""
    live, can_cage = mounts.mounted_at(table, resource.source), True
    try:
        can_cage = not resource.snapshot or proc.can_cage()
    except Failure as error:
        return SnapshotFacts(resource, None, error, live, can_cage, is_at_work)
    try:
        found = lvm_volume.below(resource, config.role.timeout)
    except Failure as error:
        return SnapshotFacts(resource, None, error, live, can_cage, is_at_work)
    return SnapshotFacts(resource, found, None, live, can_cage, is_at_work)


def judge(facts: SnapshotFacts) -> Iterator[Finding]:
    """Whether a snapshot could be made now, if it is to be, and whether one is left that nobody uses."""
    check, found = Check("snapshot", facts.resource.name), facts.found
    if facts.resource.snapshot:
        yield _possible(check, facts)
    if found is not None and found.left and not facts.is_at_work:
        names = " ".join(one.full_name for one in found.left)
        yield check.warn("a run that was killed has left a snapshot", f"The next run removes it; or lvremove {names}")
    elif facts.problem and not facts.resource.snapshot:
        message = f"cannot find out whether a run that was killed has left a snapshot: {facts.problem.message}"
        yield check.warn(message, f"See what `lvs` says of those called {lvm.OURS}.")


def _possible(check: Check, facts: SnapshotFacts) -> Finding:
    found, problem = facts.found, facts.problem
    if not facts.can_cage:
        return check.fail("it needs mount namespaces", "Run it as root, and not in a container.")
    if found is None:
        return check.fail(problem.message if problem else "", problem.hint if problem else "")
    try:
        if facts.live:
            lvm_volume.check_mount(facts.live, facts.resource)
        found.check()
    except Failure as error:
        return check.fail(error.message, error.hint)
    room = f"{size(found.needs)} of the {size(found.volume.free)} that {found.volume.group} has left"
    return check.ok(f"{found.volume.full_name} lies below it, and a snapshot takes {room}")
