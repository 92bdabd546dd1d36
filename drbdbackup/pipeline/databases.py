"""Has every database of a resource dumped before the walk, one after the other, inside the fence.

One that fails does not keep the files from being backed up: the snapshot says that it is not whole, as the run does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

from drbdbackup.config.values import DatabaseConfig
from drbdbackup.errors import DrbdBackupError, Interrupted, PartialResult, Stopped
from drbdbackup.pipeline import dumps
from drbdbackup.pipeline.attend import Patience, attend
from drbdbackup.pipeline.cage import Cage
from drbdbackup.pipeline.order import Order
from drbdbackup.pipeline.roads import surroundings
from drbdbackup.pipeline.source import identity
from drbdbackup.tools import mounts


class Databases:
    """The databases of one run. `wrong` is what went wrong, told once for the run."""

    def __init__(self, order: Order) -> None:
        """Starts nothing yet."""
        self._order = order
        self._databases = () if order.dry_run else order.resource.databases
        self._cage: Cage | None = None
        self._mounted = identity(mounts.mounted_at(mounts.table(), order.resource.source))
        self.wrong: list[DrbdBackupError] = []

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._databases)

    def dump(self, lost: Callable[[], str]) -> None:
        """Dump them; the order's `problems` say what failed. Raises Interrupted for what `lost` says."""
        for database in self._databases:
            try:
                self._dump(database, lost)
            except Interrupted as error:
                raise Interrupted(error.message, "The new Primary makes up for it.") from None
            except Stopped:
                raise
            except DrbdBackupError as error:
                told = f"the database {database.name} was not dumped: {error.message}"
                self._order.problems.append((dumps.place(database.name), told))
                self.wrong.append(PartialResult(told, error.hint))

    def strike(self) -> None:
        """KILL the one at work, without waiting."""
        if self._cage is not None:
            self._cage.strike()

    def lingers(self) -> bool:
        """Whether a process of it is left."""
        return self._cage is not None and self._cage.lingers()

    def _dump(self, database: DatabaseConfig, lost: Callable[[], str]) -> None:
        order, limits = self._order, self._order.config.limits
        job = {
            **surroundings(order.config), "job": "dump", "source": order.resource.source,
            "mounted": self._mounted, "snapshot": order.snapshot,
            "database": asdict(database), "scratch": os.path.join(order.config.state_dir, "spool"),
        }  # fmt: skip
        at_once = Patience(limits.stall, limits.stall, grace=0.0)  # what it leaves there, the next one clears away
        attend(database.name, job, at_once, lambda _: None, lost, self._begun)

    def _begun(self, cage: Cage) -> None:
        self._cage = cage
