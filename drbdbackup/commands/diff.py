"""`diff`: what differs between two snapshots, or a snapshot and the volume as it is now.

The manifests are fetched first, so that media are closed before the work begins. Against the volume it goes only on
its Primary, as a run does: the lock is held, and it ends at once when the volume is unmounted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import Interrupted, NothingFound, PartialResult, UsageError
from drbdbackup.lock import lock_file
from drbdbackup.model.backup import Copy
from drbdbackup.model.mount import MountIdentity
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import Conversation, EndT, EventT, JobT
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.copies.fetch_manifest import fetched
from drbdbackup.pipeline.copies.known_copies import fetch_catalogs
from drbdbackup.pipeline.copies.read_copy import scratch_folder
from drbdbackup.pipeline.explore.diff_protocol import DIFF, DiffJob, DiffResult, RenamedFolder, WalkedVolume
from drbdbackup.pipeline.restore.paths import within
from drbdbackup.pipeline.volume import in_use
from drbdbackup.pipeline.volume.guard import mounted_now, unmounted
from drbdbackup.pipeline.volume.source_protocol import WALK, WalkJob

NOW = "now"


class Side(Struct, frozen=True):
    """One of the two: a copy of a snapshot, or None for the volume as it was at `at`."""

    copy: Copy | None
    at: datetime


class Changed(Struct, frozen=True):
    """An entry that differs. `change` is added, removed, content or attributes, `what` says in which ways; `letter` is
    its type's, sizes are in bytes, None where it is not there.
    """

    path: str
    change: str
    what: tuple[str, ...]
    letter: str
    before: int | None
    after: int | None


class Compared(Struct, frozen=True, kw_only=True):
    """What came of it: `counts` of entries and `bytes` of files by change, entries that are the `same`, and the first
    1000 of `problem_count` entries of the volume that could not be read, as (path, why). Only `path` was compared, and
    what is below it; "" for everything. The first 1000 folders that were only `renamed` are among what was removed and
    added.
    """

    resource: str
    before: Side
    after: Side
    counts: dict[str, int]
    bytes: dict[str, int]
    same: int
    problems: tuple[Problem, ...]
    problem_count: int
    path: str
    renamed: tuple[RenamedFolder, ...]
    _file: str

    @property
    def status(self) -> int:
        """The exit status."""
        return PartialResult.status if self.problem_count else 0

    def changes(self) -> Iterator[Changed]:
        """All that differs, in the order of the paths; to be read while the comparison is open."""
        with open(self._file, "rb") as lines:
            for line in lines:
                document = json.loads(line)
                yield Changed(**{**document, "what": tuple(document["what"])})


@contextmanager
def diff(
    config: Config, resource: ResourceConfig, before: str, after: str, path: str = ""
) -> Iterator[Compared]:
    """Compare; either side is a snapshot, the beginning of its name, or `now`. `path` is all of it that is compared.

    Raises UsageError, NothingFound, and for `now` RoleError, Locked, or Interrupted if the volume goes.
    """
    if before == after == NOW or not (before and after):
        what = "both sides are now" if before == NOW else "a side has no name"  # an unset variable of a script
        raise UsageError(what, "Name a snapshot: `drbdbackup list` shows them.")
    path = within(config, path)
    fetch_catalogs(config, (resource,))
    with scratch_folder(config) as scratch:
        sides, files = [], []
        for name, word in (("before", before), ("after", after)):
            files.append(os.path.join(scratch, name))
            at = datetime.now(UTC)
            copy = None if word == NOW else fetched(config, resource, word, files[-1])
            sides.append(Side(copy, copy.started_at if copy else at))
        job = DiffJob(
            here=node_facts(config), before=files[0], after=files[1], into=os.path.join(scratch, "changes"),
            scratch=scratch, volume=None, path=path,
        )  # fmt: skip
        if NOW in (before, after):
            with _holding(config, resource) as mounted:
                volume = WalkedVolume(resource.source, mounted, files[before != NOW], config.limits.stall)
                result = _with_volume(config, resource, replace(job, volume=volume), volume)
        else:
            result = _run_job(config, resource, DIFF, job, None)
        if path and not (result.same or result.problem_count or any(result.counts.values())):
            raise NothingFound(f"{path} is on neither side", "Paths are relative to the volume, as `find` prints them.")
        yield Compared(
            resource=resource.name, before=sides[0], after=sides[1], counts=result.counts, bytes=result.bytes,
            same=result.same, problems=result.problems, problem_count=result.problem_count, path=path,
            renamed=result.renamed, _file=job.into,
        )  # fmt: skip


@contextmanager
def _holding(config: Config, resource: ResourceConfig) -> Iterator[MountIdentity | None]:
    """The volume is read meanwhile, on its Primary; the cluster's resource agent knows which process to stop.

    Yields the identity of its mount: another mount in its place is not the volume.
    """
    with lock.held(lock_file(config)):
        mounted = mounted_now(resource.source)
        hint = "Compare two snapshots, or do it on the node that is Primary."
        gate.require(config, resource, f"{resource.name} cannot be read here", hint)
        in_use.mark_in_use(config.state_dir)
        try:
            yield mounted
        finally:
            in_use.clear_in_use(config.state_dir)


def _with_volume(config: Config, resource: ResourceConfig, job: DiffJob, volume: WalkedVolume) -> DiffResult:
    """Walk the volume, then compare."""
    walk = WalkJob(
        here=job.here, source=volume.source, mounted=volume.mounted, exclude=resource.exclude, spool=volume.spool
    )
    _run_job(config, resource, WALK, walk, volume)
    return _run_job(config, resource, DIFF, job, volume)


def _run_job(
    config: Config, resource: ResourceConfig, conversation: Conversation[JobT, EventT, EndT], job: JobT,
    volume: WalkedVolume | None,
) -> EndT:  # fmt: skip
    """Have a caged job done; one that reads the volume ends at once when that is unmounted."""

    def why_stop() -> str:
        return unmounted(volume.source, volume.mounted) if volume is not None else ""

    stall = config.limits.stall
    try:
        return run_job(conversation, resource.name, job, Patience.stalled_after(stall), why_stop=why_stop)
    except Interrupted as error:
        raise type(error)(error.message, "Run it again on the Primary.") from None
