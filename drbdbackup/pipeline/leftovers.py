"""What runs have left unfinished on a target: whose it is, and whether it may go.

Another node may still be at work on its own, as Primary of a split brain, or hung and forgotten after a failover. So
what is another's is linked from and never written into, and it goes only once that node said that its run has ended, or
when no run can last that long. What is this node's own may go: who asks holds the node's lock.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from drbdbackup.catalog import view
from drbdbackup.config.values import Config
from drbdbackup.model.backup import SAFETY, snapshot_name
from drbdbackup.targets import layout

_ASTRAY = timedelta(days=1)  # how far clocks may be apart
_STAMP = len("20261123T043000Z-")


def known_to_be_over(config: Config) -> dict[str, Any]:
    """For a job that sweeps: the nodes, names of runs that have ended, and where the names of those begin that must.

    No run outlives `limits.run`: that is what its own node sees to.
    """
    oldest = datetime.now(UTC) - timedelta(seconds=config.limits.run) - _ASTRAY
    ended = view.ended_runs(config.state_dir, oldest)
    return {"nodes": list(config.nodes), "runs": ended, "before": snapshot_name(oldest, "")}


def removable(root: str, job: dict[str, Any]) -> list[str]:
    """The paths of all snapshots under way on a medium that nobody works on any more. Raises OSError."""
    found = layout.partials(root, job["resource"])
    return [path for path in found if is_over(os.path.basename(path).removeprefix(layout.PARTIAL), job)]


def is_over(name: str, job: dict[str, Any]) -> bool:
    """Whether nobody works on the unfinished snapshot of that name any more."""
    told = job["over"]
    return _is_of(name[_STAMP:], job["node"], told["nodes"]) or name in told["runs"] or name < told["before"]


def _is_of(maker: str, node: str, nodes: Collection[str]) -> bool:
    """Whether that is what this node puts behind the time: its name, or that and a number, or a safety copy's."""
    again = maker.removeprefix(f"{node}-")
    is_numbered = again == SAFETY or again.removeprefix(f"{SAFETY}-").isdigit()
    return maker == node or (again != maker and is_numbered and maker not in nodes)
