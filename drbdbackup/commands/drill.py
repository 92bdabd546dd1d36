"""`drill`: restores the newest snapshot beside everything, holds it against its manifest, and checks its databases.

A copy is called damaged only for what was found in it: a machine that has no room, or on which no database starts,
proves nothing. Whatever happens, what was restored is removed again, by the next drill if this one is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from drbdbackup import lock
from drbdbackup.catalog import bodies, store, view
from drbdbackup.commands import places, restore
from drbdbackup.commands.latest import take_in
from drbdbackup.commands.reaching import Reaching
from drbdbackup.commands.restore import Plan, Request
from drbdbackup.commands.verify import Verified, verified_copy
from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import Damaged, NothingFound, TargetFull
from drbdbackup.model.amount import size
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline import roads
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.choose import Way, resolved, told
from drbdbackup.pipeline.drill import HOME, VOLUME
from drbdbackup.pipeline.watching import Nobody, Watcher
from drbdbackup.targets import document


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of it: what was restored, how many `dumps` and physical `backups` of databases it holds and, where a
    database was started, how many `tables` were checked (or None).

    `problems` are the first 1000 of `problem_count`, as (path or table, why). `damaged` are copies that come before the
    one that was restored and were found damaged on the way.
    """

    copy: Copy
    files: int
    bytes: int
    tables: int | None
    problems: tuple[tuple[str, str], ...]
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


def drill(config: Config, resource: ResourceConfig, watcher: Watcher, *, snapshot: str = "", to: str = "") -> Drilled:
    """Drill the newest snapshot (or the one that is called so) in the folder `to`, else where the configuration says.

    Raises Locked if another drill is at work, NothingFound, TargetFull, and DrbdBackupError for a database server that
    cannot be had here.
    """
    folder = os.path.abspath(to or config.drill.folder or os.path.join(config.state_dir, "drill"))
    if to or config.drill.folder:
        places.refuse_ours(config, os.path.realpath(folder), "--to" if to else "drill.folder")
    take_in(config, (resource,))
    with lock.held(os.path.join(config.state_dir, "drill.lock")), _scratch(config, folder) as volume:
        return _drilled(config, resource, watcher, snapshot, folder, volume)


def _drilled(
    config: Config, resource: ResourceConfig, watcher: Watcher, snapshot: str, folder: str, volume: str
) -> Drilled:
    started_at = datetime.now(UTC)
    plan, damaged = _planned(config, Request(resource.name, snapshot=snapshot, to=volume, is_ours=True))
    if plan is None:
        return Drilled(damaged[0].copy, 0, 0, None, (), 0, damaged, started_at, datetime.now(UTC))
    done = restore.restore(config, plan, watcher)
    said: dict[str, Any] = {
        "tables": None, "dumps": 0, "backups": 0, "problems": done.problems, "problem_count": done.problem_count,
    }  # fmt: skip
    if done.problem_count:
        damaged += _read_again(config, [plan.copy])
    else:
        said = _databases(config, folder)
    found = Drilled(
        plan.copy, done.files, done.bytes, said["tables"], tuple((what, why) for what, why in said["problems"]),
        said["problem_count"], damaged, started_at, datetime.now(UTC), said["dumps"], said["backups"],
    )  # fmt: skip
    _record(config, found, by_database=bool(found.problem_count and not done.problem_count))
    return found


def _planned(config: Config, request: Request) -> tuple[Plan | None, tuple[Verified, ...]]:
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
        raise NothingFound(f"the newest snapshot cannot be read:\n{told(out_of_reach)}", hint)
    if plan.missing:
        needs = f"{size(plan.bytes)} would be restored, and {size(plan.free)} are free there"
        hint = "Name a folder with more room: `--to`, or `drill.folder` in the configuration."
        raise TargetFull(f"there is no room for a drill in {os.path.dirname(plan.destination)}: {needs}", hint)
    return plan, damaged


def _wanted(config: Config, request: Request) -> list[Copy]:
    """The copies of the snapshot that is asked for, of the newest if none is."""
    known = view.copies(config.state_dir, str(request.resource), [target.name for target in config.targets])
    sound = [copy for copy in known if request.snapshot or copy.damaged_at is None]
    name = resolved(request.snapshot, sound, "") if request.snapshot else sound[0].snapshot if sound else ""
    return [copy for copy in sound if copy.snapshot == name]


def _read_again(config: Config, copies: Sequence[Copy]) -> tuple[Verified, ...]:
    """Those that are damaged, of the copies that this node itself can read."""
    reaching = Reaching(config)
    near = [copy for copy in copies if reaching.way(copy) is not Way.PEER]
    read = [verified_copy(config, reaching, copy, 1.0, Nobody()) for copy in near]
    return tuple(one for one in read if one.problem_count)


def _databases(config: Config, folder: str) -> dict[str, Any]:
    """The dumps that came back and, where they are well, the tables that a server finds in each database."""
    found = {**_attended(config, {"step": "dumps", "to": folder}), "tables": None}
    backups = found.pop("backups")
    if not found["problem_count"]:
        asked = [(path, True) for path in backups] + [(path, False) for path in filter(None, [config.drill.mariadb])]
        for number, (path, is_backup) in enumerate(asked, 1):
            said = _attended(config, {
                "step": "tables", "to": folder, "server": f"server-{number}", "mariadb": path, "is_backup": is_backup,
                "options": list(config.drill.options), "starting": config.limits.stall, "checking": config.limits.run,
            })  # fmt: skip
            found["tables"] = (found["tables"] or 0) + said["tables"]
            found["problems"] += said["problems"]
            found["problem_count"] += said["problem_count"]
    return {**found, "backups": len(backups)}


def _attended(config: Config, job: dict[str, Any]) -> dict[str, Any]:
    patience = Patience(config.limits.stall, config.limits.stall)
    return attend("the drill", {**roads.surroundings(config), "job": "drill", **job}, patience, lambda _: None)


def _record(config: Config, found: Drilled, *, by_database: bool) -> None:
    """A database that does not start says something of the snapshot, wherever it lies."""
    node, copy, now = config.node, found.copy, datetime.now(UTC)
    if by_database:
        known = view.copies(config.state_dir, copy.resource, [copy.target])
        told_of = [f"{table}: {why}" for table, why in found.problems]
        same = [one for one in known if one.snapshot == copy.snapshot]
        store.record(config.state_dir, node, [bodies.damaged(node, now, one, told_of, by_drill=True) for one in same])
    elif not found.problem_count:
        fact = bodies.drilled(node, now, copy, found.files, found.bytes, found.tables)
        store.record(config.state_dir, node, [fact])
    roads.put_all(config, None, on_volume=False)


@contextmanager
def _scratch(config: Config, folder: str) -> Iterator[str]:
    """Where to restore to, below `folder`; what a drill that was killed left goes first, wherever that was."""
    note = os.path.join(config.state_dir, "drilling.json")
    with suppress(FileNotFoundError, Damaged):
        _sweep(config, str(document.read(note, 1 << 16).get("folder")))
    os.makedirs(folder, 0o700, exist_ok=True)
    _sweep(config, folder)
    document.write(note, {"folder": folder})
    try:
        os.mkdir(os.path.join(folder, HOME), 0o700)
        yield os.path.join(folder, HOME, VOLUME)
    finally:
        _sweep(config, folder)
        os.unlink(note)


def _sweep(config: Config, folder: str) -> None:
    _attended(config, {"step": "sweep", "to": folder})
