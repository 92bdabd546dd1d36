"""The supervisor's side of a look at a target (`inspect` is the caged one's): the job, and how long to wait for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drbdbackup.catalog import view
from drbdbackup.config.values import Config, TargetConfig
from drbdbackup.pipeline import cage
from drbdbackup.pipeline.roads import subject, surroundings

LOOK = 30.0  # seconds for a look at a target: a disk that sleeps takes ten to wake up


def inspection(config: Config, target: TargetConfig, *, accept: bool = False, sidecars: bool = False) -> dict[str, Any]:
    """The job for a look at a target."""
    expected = view.expected_target(config.state_dir, subject(target, config.node))
    return {
        **surroundings(config), "job": "inspect", "target": asdict(target),
        "accept": accept, "sidecars": sidecars, "expected": expected,
    }  # fmt: skip


def look(config: Config, target: TargetConfig) -> dict[str, Any]:
    """What is there now (see `inspect`). Raises TargetError, Stalled, ToolError."""
    patience = LOOK if target.kind == "disk" else config.limits.probe
    return cage.ask(target.name, inspection(config, target), patience)
