"""`doctor`: checks this node against what a backup needs, each item with what to do."""

from __future__ import annotations

from drbdbackup.config.values import Config
from drbdbackup.doctor import examine
from drbdbackup.doctor.examine import Diagnosis
from drbdbackup.doctor.finding import State
from drbdbackup.errors import DrbdBackupError


def doctor(config: Config) -> Diagnosis:
    """Look at everything. What is wrong is an answer here, not an error."""
    return examine.examine(config)


def exit_status(diagnosis: Diagnosis) -> int:
    """1 if something FAILs; a WARN is no failure."""
    return DrbdBackupError.status if any(one.state is State.FAIL for one in diagnosis.findings) else 0
