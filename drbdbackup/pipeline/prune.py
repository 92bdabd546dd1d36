"""Removing snapshots from a target: those that retention drops, and what crashed runs left. Also a caged job.

It looks again that the medium is there before it removes anything, and it never decides what goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from drbdbackup.pipeline import leftovers
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.opening import Opened, opened
from drbdbackup.targets import layout, removal


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Remove the job's `drop`, pairs of snapshot and reason; an event "pruned" for each."""
    with opened(job, write=True) as at, channel.beating():
        sweep(at, job)
        drop(at, job["resource"], job["drop"], channel)
    return {}


def drop(at: Opened, resource: str, snapshots: Iterable[tuple[str, str]], channel: Channel) -> None:
    """Remove these snapshots; one that is not there any more counts as removed."""
    removed = False
    for snapshot, reason in snapshots:
        at.check_still_there()
        folder = layout.published(at.root, resource, snapshot)
        removal.retire(os.path.dirname(folder), os.path.basename(folder))
        channel.tell("pruned", snapshot=snapshot, reason=reason)
        removed = True
    if removed:
        layout.point_latest(at.root, resource)


def sweep(at: Opened, job: dict[str, Any], but: str = "") -> None:
    """Remove what crashes left: snapshots that nobody works on any more (`but` stays), and unfinished removals.

    A name goes before what it names: a node that was frozen and wakes up must not publish what is half removed.
    """
    folder = layout.resource_folder(at.root, job["resource"])
    for left in leftovers.removable(at.root, job):
        if left != but:
            at.check_still_there()
            removal.retire(folder, os.path.basename(left))
    removal.sweep(folder)
    removal.sweep(layout.safety_folder(at.root, job["resource"]))
