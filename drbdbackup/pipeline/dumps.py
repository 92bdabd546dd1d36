"""Where the databases of a volume leave their consistent copies, and how these are told apart.

In a folder on the volume itself, so that the walk finds them like everything else there: every target, `verify`, the
peer and an older snapshot have them without anybody doing anything for it. Not in `.drbdbackup`, which is no part of a
snapshot. `exclude` cannot leave it out.
"""

from __future__ import annotations

import os

from drbdbackup.scan import DATABASES

FOLDER = os.fsdecode(DATABASES)
DUMP = "dump.sql"
BACKUP = "backup-"
PARTIAL = ".partial"


def place(database: str) -> str:
    """The folder of one database, from the volume's top."""
    return f"{FOLDER}/{database}"
