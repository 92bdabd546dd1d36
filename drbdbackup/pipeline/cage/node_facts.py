"""What the supervisor puts into every job: the facts about this node, and the runs that have ended.

A job must not look them up itself: it has neither the catalog nor the mounts of the host.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from drbdbackup import proc
from drbdbackup.catalog import folders, view
from drbdbackup.catalog.facts import CLOCK_SKEW
from drbdbackup.config.values import Config
from drbdbackup.model.backup import snapshot_name
from drbdbackup.pipeline.cage.protocol import EndedRuns, NodeFacts


def known_to_be_over(config: Config) -> EndedRuns:
    """For a job that sweeps: the runs that have ended, or must have.

    No run outlives `limits.run`: that is what its own node sees to.
    """
    oldest = datetime.now(UTC) - timedelta(seconds=config.limits.run) - CLOCK_SKEW
    ended = view.ended_runs(config.state_dir, oldest)
    return EndedRuns(config.nodes, tuple(ended), snapshot_name(oldest, ""))


def node_facts(config: Config) -> NodeFacts:
    """The facts about this node that every job carries. Raises Unguarded."""
    caged = proc.can_cage()
    return NodeFacts(
        node=config.node, caged=caged, volumes=tuple(resource.source for resource in config.resources),
        marks=None if caged else os.path.join(config.state_dir, "mounted"), nice=config.limits.nice,
        ionice=config.limits.ionice, held=folders.held_folder(config.state_dir), media=view.media(config),
    )  # fmt: skip
