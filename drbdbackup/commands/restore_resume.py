"""`restore --resume` and `restore --accept`: what becomes of an interrupted restore in place, on either node.

On half a volume nothing is started: only what the admin says ends such a restore.
"""

from __future__ import annotations

from msgspec import Struct

from drbdbackup import lock
from drbdbackup.commands.restore import judge
from drbdbackup.config.select import one_resource
from drbdbackup.config.values import Config
from drbdbackup.errors import RestoreUnfinished
from drbdbackup.lock import lock_file
from drbdbackup.model.restoring import RestoreStage, Restoring
from drbdbackup.pipeline.restore import in_place
from drbdbackup.pipeline.restore.request import Request


class Finished(Struct, frozen=True):
    """A restore that there is nothing more to bring for; `problems` are those of its services."""

    before: Restoring
    services: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.problems else 0


def request(
    config: Config, name: str | None, origin: str, *, yes: bool, safety: bool, peer_is_stopped: bool
) -> Request | None:  # fmt: skip
    """What completes the interrupted restore of a resource; None if all is back, and only `finish` is left.

    Raises NothingFound, RoleError, DrbdBackupError if what was written down cannot be read.
    """
    resource = one_resource(config, name)
    judge(config, resource, peer_is_stopped=peer_is_stopped)
    before = in_place.interrupted(config, resource)
    if before.stage is RestoreStage.RESTORED:
        return None
    if not before.snapshot:
        hint = "Choose a snapshot: `drbdbackup restore --in-place --snapshot ID` makes the volume whole too."
        raise RestoreUnfinished(before.description, hint)
    return Request(
        resource=resource.name, origin=origin, snapshot=before.snapshot, path=before.path, in_place=True, yes=yes,
        safety=safety, resume=True, peer_is_stopped=peer_is_stopped,
    )  # fmt: skip


def finish(config: Config, name: str | None) -> Finished:
    """Take the volume as it is: start its services, and forget the restore. Raises Locked, RoleError, NothingFound."""
    resource = one_resource(config, name)
    with lock.held(lock_file(config)):
        judge(config, resource, peer_is_stopped=True)  # nothing is replaced
        before = in_place.interrupted(config, resource)
        return Finished(before, resource.services, in_place.finish(config, resource, before))
