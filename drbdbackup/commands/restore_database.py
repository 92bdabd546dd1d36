"""`restore --database`: the consistent copy that a run made of a database, back into the server or to a folder.

A dump is restored to a folder of our own and given to the running server, on the Primary only. A physical backup is
restored to a folder of the admin's and made ready there: the admin puts it in the place of the server's files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Never

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import gate, lock
from drbdbackup.commands import restore as files
from drbdbackup.config.open_to_others import why_replaceable
from drbdbackup.config.select import one_resource
from drbdbackup.config.values import Config, DatabaseConfig, ResourceConfig
from drbdbackup.errors import Failure, NotInSnapshot, UsageError
from drbdbackup.lock import lock_file
from drbdbackup.moment import of_file
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import Conversation, Ended, JobT
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.copies import read_copy
from drbdbackup.pipeline.database import dump_files
from drbdbackup.pipeline.database.load_protocol import LOAD, PREPARE, LoadJob, PrepareJob
from drbdbackup.pipeline.progress import Watcher
from drbdbackup.pipeline.restore.request import Request, Restored, RestorePlan
from drbdbackup.pipeline.volume.guard import mounted_now, unmounted

_OTHER = "Every run makes one since [resource.NAME.database] is configured; choose another with --at or --snapshot."


class DatabasePlan(Struct, frozen=True):
    """What will be done: `files` says what is brought from where, `method` what it is ("dump" or "backup").

    `made_at` is when the database wrote it. `folder` is where it is brought to; of a dump that goes into the server it
    is of our own.
    """

    files: RestorePlan
    database: DatabaseConfig
    method: str
    made_at: datetime
    into_server: bool
    folder: str

    @property
    def is_older(self) -> bool:
        """Whether the run of this snapshot could not make one, and there is only that of an earlier run."""
        return bool(self.files.failed_above) or self.made_at < self.files.copy.started_at.replace(microsecond=0)


class DatabaseRestored(Struct, frozen=True):
    """What came of it: `path` is the dump's file, or the folder of the backup that is ready."""

    plan: DatabasePlan
    path: str
    files: Restored

    @property
    def status(self) -> int:
        """The exit status."""
        return self.files.status


@contextmanager
def planned(config: Config, request: Request, name: str) -> Iterator[DatabasePlan]:
    """Choose a copy and look what it holds of the database; writes nothing. The plan is good for the block.

    Raises UsageError, NothingFound (NotInSnapshot where it has none), RoleError if it is to go into the server and this
    node is not the Primary.
    """
    resource = one_resource(config, request.resource)
    database = _database(resource, name)
    if request.path or request.in_place or request.merge:
        raise UsageError("--database restores a database", "--path, --in-place and --merge are about files.")
    into_server = not request.to
    if into_server:
        _judge(config, resource)
    with read_copy.scratch_folder(config) as scratch:
        there = scratch if into_server else request.to
        method, plan = _looked(config, request, database, there)
        if into_server and method == "backup":
            raise UsageError(
                f"what {plan.copy.snapshot} has of {name} is a physical backup, which no running server takes",
                "Name a folder with --to; it is prepared there.",
            )
        if method == "backup":
            _refuse_replaceable(request.to)
        yield DatabasePlan(plan, database, method, _made_at(plan, method), into_server, there)


def restore(config: Config, plan: DatabasePlan, watcher: Watcher) -> DatabaseRestored:
    """Do what the plan says.

    Raises Locked, RoleError, Interrupted, DatabaseFailed, UsageError, and what the medium says.
    """
    resource = one_resource(config, plan.files.resource)
    done = files.restore(config, plan.files, watcher)
    path = os.path.join(plan.folder, plan.files.request.path)
    if done.status:
        raise Failure("the copy is damaged and was not used", "Take another one: `drbdbackup list`.")
    if plan.method == "backup":
        path = os.path.join(path, dump_files.newest(plan.files.inside))
        _refuse_replaceable(plan.folder)  # it is opened anew
        _run_job(config, resource, plan, PREPARE, PrepareJob(here=node_facts(config), path=path))
    elif plan.into_server:
        with lock.held(lock_file(config)):
            _judge(config, resource)
            job = LoadJob(
                here=node_facts(config), database=plan.database, path=path, source=resource.source
            )  # fmt: skip
            _run_job(config, resource, plan, LOAD, job)
    return DatabaseRestored(plan, path, done)


def _refuse_replaceable(folder: str) -> None:
    """Raises UsageError where another user could have something else made ready, the live volume's for instance."""
    if why := why_replaceable(folder):
        raise UsageError(f"{why}: somebody could redirect it", "Name a folder that only root can change.")


def _database(resource: ResourceConfig, name: str) -> DatabaseConfig:
    for database in resource.databases:
        if database.name == name:
            return database
    known = ", ".join(database.name for database in resource.databases) or "none"
    raise UsageError(f"--database {name}: there is no such database", f"{resource.name} has: {known}.")


def _looked(
    config: Config, request: Request, database: DatabaseConfig, there: str
) -> tuple[str, RestorePlan]:
    """Which kind of copy the snapshot holds, and the plan to bring it."""
    folder = dump_files.place(database.name)
    for method, path in (("dump", f"{folder}/{dump_files.DUMP}"), ("backup", folder)):
        wanted = replace(request, path=path, to=there)
        try:
            plan = files.plan(config, wanted) if request.to else files.plan_aside(config, wanted)
        except NotInSnapshot as error:
            missing = error
            continue
        if method == "dump" or dump_files.newest(plan.inside):
            return method, plan
        missing = NotInSnapshot(f"no whole one is in the snapshot {plan.copy.snapshot}")
    raise NotInSnapshot(
        f"{missing.message.rpartition(' ')[2]} has no copy of the database {database.name}",
        _OTHER,
    )


def _made_at(plan: RestorePlan, method: str) -> datetime:
    """A dump's own time. A physical backup says in its name of which run it is: a failed one changes its time."""
    if method == "backup":
        with suppress(ValueError):
            stamp = dump_files.newest(plan.inside).removeprefix(dump_files.BACKUP).partition("-")[0]
            return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return of_file(plan.modified_ns) or plan.copy.started_at


def _judge(config: Config, resource: ResourceConfig) -> None:
    """The server runs where the volume is mounted. Raises RoleError."""
    hint = "Go to the node that is Primary, or have the dump put into a folder with --to."
    gate.require(config, resource, f"no database of {resource.name} is restored here", hint)


def _run_job(
    config: Config, resource: ResourceConfig, plan: DatabasePlan, conversation: Conversation[JobT, Never, Ended],
    job: JobT,
) -> None:  # fmt: skip
    mounted = mounted_now(resource.source)

    def why_stop() -> str:
        return unmounted(resource.source, mounted) if plan.into_server else ""

    limits = config.limits
    run_job(conversation, plan.database.name, job, Patience.stalled_after(limits.stall), why_stop=why_stop)
