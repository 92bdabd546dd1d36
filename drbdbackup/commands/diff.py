"""`diff`: what differs between two snapshots, or a snapshot and the volume as it is now.

The manifests are fetched first, so that media are let go of before the work begins. Against the volume it goes only on
its Primary, as a run does: the lock is held, and it is gone at once when the node has to let go.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drbdbackup import gate, lock
from drbdbackup.commands.fetching import fetched
from drbdbackup.commands.latest import take_in
from drbdbackup.commands.reaching import scratch_folder
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import Interrupted, PartialResult, RoleError, UsageError
from drbdbackup.model.backup import Copy
from drbdbackup.model.role import Decision
from drbdbackup.pipeline import fence
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.roads import surroundings
from drbdbackup.pipeline.source import identity
from drbdbackup.tools import mounts

NOW = "now"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a copy of a snapshot, or None for the volume as it was at `at`."""

    copy: Copy | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Changed:
    """An entry that differs. `change` is added, removed, content or attributes, `what` says in which ways; `letter` is
    its type's, sizes are in bytes, None where it is not there.
    """

    path: str
    change: str
    what: tuple[str, ...]
    letter: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it: `counts` of entries and `bytes` of files by change, entries that are the `same`, and the first
    1000 of `problem_count` entries of the volume that could not be read, as (path, why).
    """

    resource: str
    before: Side
    after: Side
    counts: dict[str, int]
    bytes: dict[str, int]
    same: int
    problems: tuple[tuple[str, str], ...]
    problem_count: int
    _file: str

    @property
    def status(self) -> int:
        """The exit status."""
        return PartialResult.status if self.problem_count else 0

    def changes(self) -> Iterator[Changed]:
        """All that differs, in the order of the paths; to be read while the comparison is open."""
        with open(self._file, "rb") as lines:
            for line in lines:
                told = json.loads(line)
                yield Changed(**{**told, "what": tuple(told["what"])})


@contextmanager
def diff(config: Config, resource: ResourceConfig, before: str, after: str) -> Iterator[Compared]:
    """Compare; either side is a snapshot, the beginning of its name, or `now`.

    Raises UsageError, NothingFound, and for `now` RoleError, Locked, or Interrupted if the volume goes.
    """
    if before == after == NOW or not (before and after):
        what = "both sides are now" if before == NOW else "a side has no name"  # an unset variable of a script
        raise UsageError(what, "Name a snapshot: `drbdbackup list` shows them.")
    take_in(config, (resource,))
    with scratch_folder(config) as scratch:
        sides, files = [], []
        for name, word in (("before", before), ("after", after)):
            files.append(os.path.join(scratch, name))
            at = datetime.now(UTC)
            copy = None if word == NOW else fetched(config, resource, word, files[-1])
            sides.append(Side(copy, copy.started_at if copy else at))
        into = os.path.join(scratch, "changes")
        job = {"job": "diff", "before": files[0], "after": files[1], "into": into, "scratch": scratch}
        if NOW in (before, after):
            with _holding(config, resource) as mounted:
                said = _with_volume(config, resource, {**job, "spool": files[before != NOW], "mounted": mounted})
        else:
            said = _attend(config, resource, job)
        problems = tuple((path, why) for path, why in said["problems"])
        yield Compared(
            resource.name, sides[0], sides[1], said["counts"], said["bytes"], said["same"], problems,
            said["problem_count"], into,
        )  # fmt: skip


@contextmanager
def _holding(config: Config, resource: ResourceConfig) -> Iterator[dict[str, str] | None]:
    """The volume is read meanwhile, on its Primary; the cluster's resource agent knows whom to ask to let go.

    What is yielded is the identity of its mount: nothing that comes in its place is the volume.
    """
    with lock.held(lock_file(config)):
        mounted = identity(mounts.mounted_at(mounts.table(), resource.source))
        verdict = gate.judge(resource, config.node, config.nodes, gate.gather(config, resource))
        if verdict.decision is not Decision.PROCEED:
            hint = verdict.hint or "Compare two snapshots, or do it on the node that is Primary."
            raise RoleError(f"{resource.name} cannot be read here: {'; '.join(verdict.because)}", hint)
        fence.hold(config.state_dir)
        try:
            yield mounted
        finally:
            fence.let_go(config.state_dir)


def _with_volume(config: Config, resource: ResourceConfig, job: dict[str, Any]) -> dict[str, Any]:
    """Walk the volume, then compare."""
    volume = {"source": resource.source, "mounted": job["mounted"]}
    _attend(config, resource, {"job": "walk", "spool": job["spool"], "exclude": list(resource.exclude), **volume})
    return _attend(config, resource, {**job, **volume})


def _attend(config: Config, resource: ResourceConfig, job: dict[str, Any]) -> dict[str, Any]:
    """Have a caged job done; one that reads the volume (`source`) ends at once when that is unmounted."""

    def lost() -> str:
        if "source" not in job or identity(mounts.mounted_at(mounts.table(), job["source"])) == job["mounted"]:
            return ""
        return f"{job['source']} was unmounted meanwhile"

    stall = config.limits.stall
    full = {**surroundings(config), **job, "patience": stall}
    try:
        return attend(resource.name, full, Patience(stall, stall), lambda _: None, lost)
    except Interrupted as error:
        raise Interrupted(error.message, "Run it again on the node that is Primary.") from None
