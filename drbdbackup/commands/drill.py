"""`drill`: restores the newest snapshot beside everything, holds it against its manifest, and checks its databases.

A copy is called damaged only for what was found in it: a machine that has no room, or on which no database starts,
proves nothing. What was restored is always removed again, by the next drill if this one is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Never

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import lock
from drbdbackup.catalog import bodies, history, store, view
from drbdbackup.catalog.history import TaskKind
from drbdbackup.commands import restore
from drbdbackup.commands.verify import Verified, verified_copy
from drbdbackup.config.open_to_others import why_replaceable
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import Damaged, DestinationFull, NothingFound, OutOfReach, UsageError
from drbdbackup.model.amount import size
from drbdbackup.model.backup import Copy, Outcome
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline import catalog_exchange
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.protocol import Conversation, EndT, JobT
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.copies.choose import Way, passed_over_lines, resolved
from drbdbackup.pipeline.copies.known_copies import fetch_catalogs
from drbdbackup.pipeline.copies.read_copy import CopyAccess
from drbdbackup.pipeline.database.drill_protocol import DUMPS, SWEEP, TABLES, DumpsJob, SweepJob, TablesJob
from drbdbackup.pipeline.database.dump_files import HOME, VOLUME
from drbdbackup.pipeline.progress import SilentWatcher, Watcher
from drbdbackup.pipeline.progress_file import written_progress
from drbdbackup.pipeline.restore import paths
from drbdbackup.pipeline.restore.request import Request, RestorePlan
from drbdbackup.pipeline.volume import trusted_path
from drbdbackup.targets import document

_SHOWN = 10  # problems that the history keeps


class Drilled(Struct, frozen=True, kw_only=True):
    """What came of it: what was restored, how many `dumps` and physical `backups` of databases it holds and, where a
    database was started, how many `tables` were checked (or None).

    `problems` are the first 1000 of `problem_count`, each of a path or of a table. `damaged` are copies that come
    before the one that was restored and were found damaged on the way.
    """

    copy: Copy
    files: int
    bytes: int
    tables: int | None
    problems: tuple[Problem, ...]
    problem_count: int
    damaged: tuple[Verified, ...]
    started_at: datetime
    finished_at: datetime
    dumps: int = 0
    backups: int = 0

    @property
    def status(self) -> int:
        """The exit status: 1 for whatever is not as it should be."""
        return int(bool(self.problem_count or self.damaged))


class _Databases(Struct, frozen=True):
    """What was found in the databases; fields as in `Drilled`."""

    tables: int | None = None
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0
    dumps: int = 0
    backups: int = 0


def drill(config: Config, resource: ResourceConfig, watcher: Watcher, *, snapshot: str = "", to: str = "") -> Drilled:
    """Drill the newest snapshot (or the one that is called so) in the folder `to`, else where the configuration says.

    Raises Locked if another drill is at work, NothingFound, TargetFull, and DrbdBackupError for a database server that
    cannot be started here.
    """
    named = os.path.abspath(to or config.drill.folder or os.path.join(config.state_dir, "drill"))
    folder = paths.real_folder(config, named)
    if to or config.drill.folder:
        paths.refuse_ours(config, folder, "--to" if to else "drill.folder")
    fetch_catalogs(config, (resource,))
    with lock.held(os.path.join(config.state_dir, "drill.lock")), _scratch(config, folder) as volume:
        with (
            history.recorded(config, TaskKind.DRILL, resource.name, place=folder) as task,
            written_progress(config, "drill", watcher) as watched,
        ):
            found = _drilled(config, resource, watched, snapshot, folder, volume)
            task.snapshot, task.files, task.bytes = found.copy.snapshot, found.files, found.bytes
            if found.status:
                task.outcome = Outcome.FAILED
                task.because += [f"{one.copy.snapshot} at {one.copy.location} is damaged" for one in found.damaged]
                task.because += [f"{one.path}: {one.reason}".removeprefix(": ") for one in found.problems[:_SHOWN]]
        catalog_exchange.put_all(config, None, on_volume=False)
        return found


def _drilled(
    config: Config, resource: ResourceConfig, watcher: Watcher, snapshot: str, folder: str, volume: str
) -> Drilled:
    started_at = datetime.now(UTC)
    plan, damaged = _planned(config, Request(resource=resource.name, snapshot=snapshot, to=volume, is_ours=True))
    if plan is None:
        return Drilled(
            copy=damaged[0].copy,
            files=0,
            bytes=0,
            tables=None,
            problems=(),
            problem_count=0,
            damaged=damaged,
            started_at=started_at,
            finished_at=datetime.now(UTC),
        )
    done = restore.restore(config, plan, watcher).result
    if done.problem_count:
        damaged += _read_again(config, [plan.copy])
        databases = _Databases(problems=done.problems, problem_count=done.problem_count)
    else:
        databases = _databases(config, folder)
    found = Drilled(
        copy=plan.copy, files=done.files, bytes=done.bytes, tables=databases.tables, problems=databases.problems,
        problem_count=databases.problem_count, damaged=damaged, started_at=started_at, finished_at=datetime.now(UTC),
        dumps=databases.dumps, backups=databases.backups,
    )  # fmt: skip
    _record(config, found, by_database=bool(found.problem_count and not done.problem_count))
    return found


def _planned(config: Config, request: Request) -> tuple[RestorePlan | None, tuple[Verified, ...]]:
    """What will be restored, and which copies that come before it are damaged; no plan if all that there is are.

    Raises NothingFound, TargetFull.
    """
    try:
        plan = restore.plan(config, request)
    except NothingFound:
        if damaged := _read_again(config, _wanted(config, request)):
            return None, damaged
        raise
    damaged = _read_again(config, [one.copy for one in plan.choice.passed_over])
    bad = {(one.copy.medium, one.copy.snapshot) for one in damaged}
    out_of_reach = [one for one in plan.choice.out_of_reach if (one.copy.medium, one.copy.snapshot) not in bad]
    if out_of_reach:
        hint = f"The next is {plan.copy.snapshot}: `drbdbackup drill {plan.copy.snapshot}` drills that one."
        raise OutOfReach(f"the newest snapshot cannot be read:\n{passed_over_lines(out_of_reach)}", hint)
    if plan.missing:
        needs = f"{size(plan.bytes)} would be restored, and {size(plan.free or 0)} are free there"
        hint = "Name a folder with more room: `--to`, or `drill.folder` in the configuration."
        raise DestinationFull(f"there is no room for a drill in {os.path.dirname(plan.destination)}: {needs}", hint)
    return plan, damaged


def _wanted(config: Config, request: Request) -> list[Copy]:
    """The copies of the snapshot that is asked for, of the newest if none is."""
    known = view.configured(config, str(request.resource), adopted=bool(request.snapshot))
    sound = [copy for copy in known if request.snapshot or copy.damaged_at is None]
    name = resolved(request.snapshot, sound) if request.snapshot else sound[0].snapshot if sound else ""
    return [copy for copy in sound if copy.snapshot == name]


def _read_again(config: Config, copies: Sequence[Copy]) -> tuple[Verified, ...]:
    """Those that are damaged, of the copies that this node itself can read."""
    access = CopyAccess(config)
    near = [copy for copy in copies if access.way(copy) is not Way.PEER]
    read = [verified_copy(config, access, copy, 1.0, SilentWatcher()) for copy in near]
    return tuple(one for one in read if one.problem_count)


def _databases(config: Config, folder: str) -> _Databases:
    """The dumps that were restored and, where they are whole, the tables that a server finds in each database."""
    restored = _run_job(config, DUMPS, DumpsJob(here=node_facts(config), to=folder))
    found = _Databases(None, restored.problems, restored.problem_count, restored.dumps, len(restored.backups))
    if restored.problem_count:
        return found
    asked = [(path, True) for path in restored.backups]
    asked += [(path, False) for path in filter(None, [config.drill.mariadb])]
    for number, (path, is_backup) in enumerate(asked, 1):
        checked = _run_job(config, TABLES, TablesJob(
            here=node_facts(config), to=folder, server=f"server-{number}", mariadb=path, is_backup=is_backup,
            options=config.drill.options, starting=config.limits.stall, checking=config.limits.run,
        ))  # fmt: skip
        found = replace(
            found, tables=(found.tables or 0) + checked.tables, problems=found.problems + checked.problems,
            problem_count=found.problem_count + checked.problem_count,
        )  # fmt: skip
    return found


def _run_job(config: Config, conversation: Conversation[JobT, Never, EndT], job: JobT) -> EndT:
    return run_job(conversation, "the drill", job, Patience.stalled_after(config.limits.stall))


def _record(config: Config, found: Drilled, *, by_database: bool) -> None:
    """Every copy of a snapshot counts as damaged where its database does not start."""
    node, copy, now = config.node, found.copy, datetime.now(UTC)
    if by_database:
        known = view.copies(config.state_dir, config.node, copy.resource, [copy.target])
        problems = [f"{one.path}: {one.reason}" for one in found.problems]
        same = [one for one in known if one.snapshot == copy.snapshot]
        store.record(config.state_dir, node, [bodies.damaged(node, now, one, problems, by_drill=True) for one in same])
    elif not found.problem_count:
        fact = bodies.drilled(node, now, copy, found.files, found.bytes, found.tables)
        store.record(config.state_dir, node, [fact])


@contextmanager
def _scratch(config: Config, folder: str) -> Iterator[str]:
    """Where to restore to, below `folder`; what a drill that was killed left goes first, wherever that was."""
    note = os.path.join(os.path.realpath(config.state_dir), "drilling.json")
    with suppress(FileNotFoundError, Damaged):
        left = str(document.read(note, 1 << 16).get("folder"))
        if not why_replaceable(left):
            _sweep(config, left)
    missing = _missing(folder)
    try:
        with trusted_path.opened(folder, make=True):
            why = why_replaceable(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be restored to: {error.strerror}", "Name another folder.") from None
    if why:
        raise UsageError(f"{why}: somebody could redirect a drill there", "Name a folder that only root can change.")
    _sweep(config, folder)
    document.write(note, {"folder": folder})
    try:
        os.mkdir(os.path.join(folder, HOME), 0o700)
        yield os.path.join(folder, HOME, VOLUME)
    finally:
        _sweep(config, folder)
        os.unlink(note)
        with suppress(OSError):
            for made in missing:
                os.rmdir(made)


def _missing(folder: str) -> list[str]:
    """The folders of this path that are not there yet, the deepest first."""
    missing = []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def _sweep(config: Config, folder: str) -> None:
    _run_job(config, SWEEP, SweepJob(here=node_facts(config), to=folder))
