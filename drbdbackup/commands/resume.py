"""`restore --resume` and `restore --accept`: what becomes of an interrupted restore in place, on either node."""

from __future__ import annotations

from dataclasses import dataclass

from drbdbackup import lock
from drbdbackup.commands import inplace
from drbdbackup.commands.chosen import one_resource
from drbdbackup.commands.restore import Request, judge
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config
from drbdbackup.errors import DrbdBackupError
from drbdbackup.model.restoring import Restoring, Stage


@dataclass(frozen=True, slots=True)
class Finished:
    """A restore that there is nothing more to bring for; `problems` are those of its services."""

    before: Restoring
    services: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.problems else 0


def request(config: Config, name: str | None, origin: str, *, yes: bool, safety: bool) -> Request | None:
    """What completes the interrupted restore of a resource; None if all is back, and only `finish` is left.

    Raises NothingFound, RoleError, DrbdBackupError if what was written down cannot be read.
    """
    resource = one_resource(config, name)
    judge(config, resource)
    before = inplace.interrupted(config, resource)
    if before.stage is Stage.RESTORED:
        return None
    if not before.snapshot:
        hint = "Choose a snapshot: `drbdbackup restore --in-place --snapshot ID` makes the volume whole too."
        raise DrbdBackupError(before.told, hint)
    return Request(
        resource.name, origin, snapshot=before.snapshot, path=before.path, in_place=True, yes=yes, safety=safety,
        resume=True,
    )  # fmt: skip


def finish(config: Config, name: str | None) -> Finished:
    """Take the volume as it is: start its services, and forget the restore. Raises Locked, RoleError, NothingFound."""
    resource = one_resource(config, name)
    with lock.held(lock_file(config)):
        judge(config, resource)
        before = inplace.interrupted(config, resource)
        return Finished(before, resource.services, inplace.finish(config, resource, before))
