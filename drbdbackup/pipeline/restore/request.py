"""What a restore is asked for, what it will do, and what came of it, as values.

Nothing here decides or acts: `commands/restore` makes the plan, `restore_job` does the work.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.copies.choose import Choice
from drbdbackup.pipeline.restore.in_place import NOTHING, InPlaceOutcome
from drbdbackup.pipeline.restore.restore_protocol import RestoreResult
from drbdbackup.tools.openers import Opener


class Request(Struct, frozen=True, kw_only=True):
    """What the command line asks for: exactly one of `to` and `in_place`; `path` is relative to the volume's top.

    `resume` goes on with a restore in place that was interrupted.

    `origin` is a node or a target ("--from"); `merge` lets `to` hold something already, of which nothing is deleted;
    `yes` means that nobody is there to be asked; `is_ours` that `to` is a folder of drbdbackup's own; `safety` that
    what is there now is kept before it is gone over; `peer_is_stopped` that another Primary does not use the volume.
    """

    resource: str | None = None
    origin: str = ""
    at: datetime | None = None
    snapshot: str = ""
    lineage: str = ""
    path: str = ""
    to: str = ""
    in_place: bool = False
    merge: bool = False
    yes: bool = False
    is_ours: bool = False
    safety: bool = True
    resume: bool = False
    peer_is_stopped: bool = False


class RestorePlan(Struct, frozen=True, kw_only=True):
    """What a restore will do: counts and bytes of what is restored, `deleted` entries (in place only), free bytes.

    `choice` holds the copy, the way to it, and what was passed over; `shown` are the first of the deleted paths.
    `missing` are the bytes that it needs and are not free there; `warnings` say so too. `modified_ns` is the time of
    what is at `path` in the snapshot, `inside` are the first names in it, `failed_above` says why that, or a folder
    above it, could not be read when the snapshot was made; `busy` has what uses the volume now, `services` are stopped
    around a restore in place; it `keeps` a safety copy first, or goes on with one that has kept `kept_before`.
    """

    request: Request
    resource: str
    choice: Choice
    destination: str
    entries: int
    files: int
    bytes: int
    free: int | None
    deleted: int = 0
    deleted_bytes: int = 0
    shown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: int = 0
    modified_ns: int = 0
    failed_above: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    busy: tuple[Opener, ...] = ()
    services: tuple[str, ...] = ()
    keeps: bool = False
    kept_before: str = ""

    @property
    def copy(self) -> Copy:
        """The copy that is restored."""
        return self.choice.copy


class Restored(Struct, frozen=True):
    """What came of it: the `result` of the job, and what was done around a restore in place.

    The exit status is 1 for problems.
    """

    plan: RestorePlan
    result: RestoreResult
    started_at: datetime
    finished_at: datetime
    in_place_outcome: InPlaceOutcome = NOTHING

    @property
    def status(self) -> int:
        """The exit status."""
        return 1 if self.result.problem_count or self.in_place_outcome.problems else 0
