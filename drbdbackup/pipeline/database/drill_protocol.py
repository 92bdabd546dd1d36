"""The three conversations with the job of a drill, about what was restored into a folder.

| the job       | ends with       |                                                                |
|---------------|-----------------|----------------------------------------------------------------|
| `SweepJob`    | `Ended`         | what a drill left there is gone                                |
| `DumpsJob`    | `DumpsChecked`  | which dumps and physical backups came back, and what is wrong  |
| `TablesJob`   | `TablesChecked` | what a server finds in one database; if one can be started     |
"""

from __future__ import annotations

from typing import Never

from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import CageJob, Conversation, Ended, JobEvent


class DrillJob(CageJob, frozen=True, kw_only=True):
    """Any of them: `to` is the drill's folder."""

    to: str

    @property
    def paths(self) -> tuple[str, ...]:
        """The drill's folder."""
        return (self.to,)


class SweepJob(DrillJob, frozen=True, kw_only=True, tag_field="step", tag="sweep"):
    """Remove what a drill left."""


class DumpsJob(DrillJob, frozen=True, kw_only=True, tag_field="step", tag="dumps"):
    """Look at the dumps that were restored."""


class TablesJob(DrillJob, frozen=True, kw_only=True, tag_field="step", tag="tables"):
    """Check the database at `mariadb`, a path from the volume's top.

    It may be a physical backup (`is_backup`) that has to be made ready. `server` is the name of a folder for the
    server's files, `options` are its options. `starting` and `checking` are how many seconds these may take.
    """

    server: str
    mariadb: str
    is_backup: bool
    options: tuple[str, ...]
    starting: float
    checking: float


class DumpsChecked(JobEvent, frozen=True, tag="done"):
    """How many `dumps` there are, and where the newest physical backup of each database is.

    `problems` are the first 1000 of `problem_count`.
    """

    dumps: int
    backups: tuple[str, ...]
    problems: tuple[Problem, ...]
    problem_count: int


class TablesChecked(JobEvent, frozen=True, tag="done"):
    """How many `tables` there are; `problems` as above, each of a table."""

    tables: int
    problems: tuple[Problem, ...]
    problem_count: int


SWEEP: Conversation[SweepJob, Never, Ended] = Conversation("drill", SweepJob, Ended)
DUMPS: Conversation[DumpsJob, Never, DumpsChecked] = Conversation("drill", DumpsJob, DumpsChecked)
TABLES: Conversation[TablesJob, Never, TablesChecked] = Conversation("drill", TablesJob, TablesChecked)
