"""`doctor`: checks this node against what a backup needs, each item with what to do."""

from __future__ import annotations

from drbdbackup.config.values import Config
from drbdbackup.doctor import examine
from drbdbackup.doctor.examine import Diagnosis


def doctor(config: Config) -> Diagnosis:
    """Look at everything. What is wrong is an answer here, not an error."""
    return examine.examine(config)
