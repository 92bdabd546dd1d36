"""The caged job that brings to its disk what was written to the volume, shortly before a snapshot of that disk is made.

It is all that such a run does with the volume itself.
"""

from __future__ import annotations

from typing import Any

from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.source import guarded
from drbdbackup.tools import mount


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Sync the file system at `source`. Raises Interrupted if it is not mounted there (any more)."""
    guard = guarded(job)
    with channel.beating():
        mount.sync(job["source"])
    guard.check()
    return {}
