"""The supervisor's side of a look at a target (`inspect` is the caged one's): the job, and how long to wait for it.

The supervisor must not look itself: a medium may hang for ever.
"""

from __future__ import annotations

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.pipeline.cage.node_facts import node_facts
from drbdbackup.pipeline.cage.supervisor import Patience, run_job
from drbdbackup.pipeline.target.inspect_protocol import INSPECT, InspectJob, TargetLook

LOOK = 30.0  # seconds for a look at a target: a disk that sleeps takes ten to wake up


def inspection(config: Config, target: TargetConfig, *, accept: bool = False, sidecars: bool = False) -> InspectJob:
    """The job for a look at a target."""
    expected = view.expected(config, target)
    return InspectJob(
        here=node_facts(config), target=target, expected=expected, accept=accept, sidecars=sidecars,
    )  # fmt: skip


def look(config: Config, target: TargetConfig) -> TargetLook:
    """What is there now (see `inspect_job`). Raises TargetError, Stalled, ToolError."""
    return run_job(INSPECT, target.name, inspection(config, target), Patience.within(patience_to_open(config, target)))


def patience_to_open(config: Config, target: TargetConfig) -> float:
    """Seconds in which it has to be open, where somebody waits for that."""
    return LOOK if target.wakes_up else config.limits.probe
