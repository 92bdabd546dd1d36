"""A copy that is held back: the source was suspiciously small. It stays out of sight, whole, until the next run.

It is one more `.partial-`: never taken for a backup, linked from by the next run (`--accept-shrink`), and never more
than one of them on a target.
"""

from __future__ import annotations

import os
from typing import Any

from drbdbackup.pipeline import prune
from drbdbackup.pipeline.opening import Opened


def keep(at: Opened, job: dict[str, Any], fresh: str) -> str:
    """Leave the copy in `fresh` as the only one held back; where it lies, for people. Raises TargetError, OSError."""
    at.check_still_there()
    prune.sweep(at, job, but=fresh)
    return f"held back on {at.medium.location} as {os.path.relpath(fresh, at.root)}"
