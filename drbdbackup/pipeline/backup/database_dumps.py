"""Has every database of a resource dumped before the walk, one after the other, under the watch.

One that fails does not keep the files from being backed up: the snapshot says that it is not whole, as the run does.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import DrbdBackupError, Failure, Interrupted, PartialResult
from drbdbackup.pipeline.backup.order import Order
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.supervisor import Cage, Patience, attend
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

    def dump(self, lost: Callable[[], str]) -> list[tuple[str, str]]:
        """Dump them; what failed, as path and problem. Raises Interrupted for what `lost` says."""
        problems = []
        for database in self._databases:
            try:
                self._dump(database, lost)
            except Interrupted as error:
                raise type(error)(error.message, Interrupted.made_there) from None
            except Failure as error:
                told = f"the database {database.name} was not dumped: {error.message}"
                problems.append((dump_files.place(database.name), told))
                self.wrong.append(PartialResult(told, error.hint))
        return problems

    def strike(self) -> None:
        """KILL the one at work, without waiting."""
        if self._cage is not None:
            self._cage.strike()

    def lingers(self) -> bool:
        """Whether a process of it is left."""
        return self._cage is not None and self._cage.lingers()

    def _dump(self, database: DatabaseConfig, lost: Callable[[], str]) -> None:
        order, limits = self._order, self._order.config.limits
        job = DumpJob(
            here=node_facts(order.config), source=order.resource.source, mounted=self._mounted,
            snapshot=order.snapshot, database=database, scratch=os.path.join(order.config.state_dir, "spool"),
        )  # fmt: skip
        at_once = Patience(limits.stall, limits.stall, grace=0.0)  # what it leaves there, the next one clears away
        attend(DUMP, database.name, job, at_once, lost=lost, begun=self._begun)

    def _begun(self, cage: Cage) -> None:
        self._cage = cage
