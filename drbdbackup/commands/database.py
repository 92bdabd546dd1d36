"""`restore --database`: the consistent copy that a run made of a database, back into the server or to a folder.

A dump is brought to a folder of our own and given to the running server, on the Primary only. A physical backup is
brought to a folder of the admin's and made ready there: to put it in the place of the server's files is his.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from drbdbackup import gate, lock
from drbdbackup.commands import reaching
from drbdbackup.commands import restore as files
from drbdbackup.commands.chosen import one_resource
from drbdbackup.commands.run import lock_file
from drbdbackup.config.values import Config, DatabaseConfig, ResourceConfig
from drbdbackup.errors import DrbdBackupError, NotInSnapshot, RoleError, UsageError
from drbdbackup.model.role import Decision
from drbdbackup.pipeline import dumps
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.roads import surroundings
from drbdbackup.pipeline.source import identity
from drbdbackup.pipeline.watching import Watcher
from drbdbackup.tools import mounts

_OTHER = "Every run makes one since [resource.NAME.database] is configured; choose another with --at or --snapshot."


@dataclass(frozen=True, slots=True)
class DatabasePlan:
    """What will be done: `files` says what is brought from where, `method` what it is ("dump" or "backup").

    `made_at` is when the database wrote it. `folder` is where it is brought to; of a dump that goes into the server it
    is of our own.
    """

    files: files.Plan
    database: DatabaseConfig
    method: str
    made_at: datetime
    into_server: bool
    folder: str

    @property
    def is_older(self) -> bool:
        """Whether the run of this snapshot could not make one, and there is only that of an earlier run."""
        return bool(self.files.failed_above) or self.made_at < self.files.copy.started_at.replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class DatabaseRestored:
    """What came of it: `brought` is the dump's file, or the folder of the backup that is ready."""

    plan: DatabasePlan
    brought: str
    files: files.Restored

    @property
    def status(self) -> int:
        """The exit status."""
        return self.files.status


@contextmanager
def planned(config: Config, request: files.Request, name: str) -> Iterator[DatabasePlan]:
    """Choose a copy and look what it holds of the database; writes nothing. The plan is good for the block.

    Raises UsageError, NothingFound (NotInSnapshot where it has none), RoleError if it is to go into the server and this
    node is not the Primary.
    """
    resource = one_resource(config, request.resource)
    database = _database(resource, name)
    if request.path or request.in_place or request.merge:
        raise UsageError("--database brings a database back", "--path, --in-place and --merge are about files.")
    into_server = not request.to
    if into_server:
        _judge(config, resource)
    with reaching.scratch_folder(config) as scratch:
        there = scratch if into_server else request.to
        method, plan = _looked(config, request, database, there)
        if into_server and method == "backup":
            raise UsageError(
                f"what {plan.copy.snapshot} has of {name} is a physical backup, which no running server takes",
                "Say with --to where to put it; it is made ready there.",
            )
        yield DatabasePlan(plan, database, method, _made_at(plan, method), into_server, there)


def restore(config: Config, plan: DatabasePlan, watcher: Watcher) -> DatabaseRestored:
    """Do what the plan says. Raises Locked, RoleError, Interrupted, DatabaseFailed, and what the medium says."""
    resource = one_resource(config, plan.files.resource)
    done = files.restore(config, plan.files, watcher)
    brought = os.path.join(plan.folder, plan.files.request.path)
    if done.status:
        raise DrbdBackupError("the copy is not as it was made: it was not used", "Take another one: `drbdbackup list`.")
    if plan.method == "backup":
        brought = os.path.join(brought, dumps.newest(plan.files.inside))
        _attended(config, resource, plan, "prepare", brought)
    elif plan.into_server:
        with lock.held(lock_file(config)):
            _judge(config, resource)
            _attended(config, resource, plan, "load", brought)
    return DatabaseRestored(plan, brought, done)


def _database(resource: ResourceConfig, name: str) -> DatabaseConfig:
    for database in resource.databases:
        if database.name == name:
            return database
    known = ", ".join(database.name for database in resource.databases) or "none"
    raise UsageError(f"--database {name}: there is no such database", f"{resource.name} has: {known}.")


def _looked(
    config: Config, request: files.Request, database: DatabaseConfig, there: str
) -> tuple[str, files.Plan]:
    """Which kind of copy the snapshot holds, and the plan to bring it."""
    folder = dumps.place(database.name)
    for method, path in (("dump", f"{folder}/{dumps.DUMP}"), ("backup", folder)):
        wanted = replace(request, path=path, to=there)
        try:
            plan = files.plan(config, wanted) if request.to else files.plan_aside(config, wanted)
        except NotInSnapshot as error:
            missing = error
            continue
        if method == "dump" or dumps.newest(plan.inside):
            return method, plan
        missing = NotInSnapshot(f"no whole one is in the snapshot {plan.copy.snapshot}")
    raise NotInSnapshot(
        f"{missing.message.rpartition(' ')[2]} holds nothing of the database {database.name}",
        _OTHER,
    )


def _made_at(plan: files.Plan, method: str) -> datetime:
    """A dump's own time. A physical backup says in its name of which run it is; a failed one stirs the folder too."""
    if method == "backup":
        with suppress(ValueError):
            stamp = dumps.newest(plan.inside).removeprefix(dumps.BACKUP).partition("-")[0]
            return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return datetime.fromtimestamp(plan.modified_ns // 10**9, UTC)


def _judge(config: Config, resource: ResourceConfig) -> None:
    """The server runs where the volume is mounted. Raises RoleError."""
    verdict = gate.judge(resource, config.node, config.nodes, gate.gather(config, resource))
    if verdict.decision is not Decision.PROCEED:
        because = "; ".join(verdict.because)
        hint = verdict.hint or "Go to the node that is Primary, or have the dump put into a folder with --to."
        raise RoleError(f"no database of {resource.name} is restored here: {because}", hint)


def _attended(config: Config, resource: ResourceConfig, plan: DatabasePlan, step: str, brought: str) -> None:
    mounted = identity(mounts.mounted_at(mounts.table(), resource.source))

    def lost() -> str:
        is_gone = identity(mounts.mounted_at(mounts.table(), resource.source)) != mounted
        return f"{resource.source} was unmounted meanwhile" if is_gone and plan.into_server else ""

    limits = config.limits
    job = {
        **surroundings(config), "job": "load", "step": step, "database": asdict(plan.database), "brought": brought,
        "to": plan.folder,
    }  # fmt: skip
    if plan.into_server:
        job["source"] = resource.source  # its socket may lie there; a volume that is not named is let go of
    attend(plan.database.name, job, Patience(limits.stall, limits.stall), lambda _: None, lost)
