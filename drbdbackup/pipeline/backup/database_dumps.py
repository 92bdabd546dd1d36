"""Has every database of a resource dumped before the walk, one after the other, under the watch.

One that fails does not keep the files from being backed up: the snapshot says that it is not whole, as the run does.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import DrbdBackupError, Failure, Interrupted, PartialResult
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.backup.order import Order
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.supervisor import Cage, Patience, run_job
from drbdbackup.pipeline.database import dump_files
from drbdbackup.pipeline.database.dump_protocol import DUMP, DumpJob
from drbdbackup.pipeline.volume.guard import mounted_now


class DatabaseDumps:
    """The databases of one run. `wrong` is what went wrong, reported once for the run."""

    def __init__(self, order: Order) -> None:
        """Starts nothing yet."""
        self._order = order
        self._databases = () if order.dry_run else order.resource.databases
        self._cage: Cage | None = None
        self._mounted = mounted_now(order.resource.source)
        self.wrong: list[DrbdBackupError] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._databases)

    def dump(self, why_stop: Callable[[], str]) -> list[Problem]:
        """Dump them; what failed. Raises Interrupted for what `why_stop` says."""
        problems: list[Problem] = []
        for database in self._databases:
            try:
                self._dump(database, why_stop)
            except Interrupted as error:
                raise type(error)(error.message, Interrupted.made_there) from None
            except Failure as error:
                message = f"the database {database.name} was not dumped: {error.message}"
                problems.append(Problem(dump_files.place(database.name), message))
                self.wrong.append(PartialResult(message, error.hint))
        return problems

    def kill_now(self) -> None:
        """KILL the one at work, without waiting."""
        if self._cage is not None:
            self._cage.kill_now()

    def has_processes(self) -> bool:
        """Whether a process of it is left."""
        return self._cage is not None and self._cage.has_processes()

    def _dump(self, database: DatabaseConfig, why_stop: Callable[[], str]) -> None:
        order, limits = self._order, self._order.config.limits
        job = DumpJob(
            here=node_facts(order.config), source=order.resource.source, mounted=self._mounted,
            snapshot=order.snapshot, database=database, scratch=os.path.join(order.config.state_dir, "spool"),
        )  # fmt: skip
        at_once = Patience.stalled_after(limits.stall, grace=0.0)  # what it leaves there, the next one clears away
        run_job(DUMP, database.name, job, at_once, why_stop=why_stop, begun=self._begun)

    def _begun(self, cage: Cage) -> None:
        self._cage = cage
