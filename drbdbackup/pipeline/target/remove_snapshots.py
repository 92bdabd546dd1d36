"""Removing snapshots from a target: those that retention drops, and what crashed runs left.

It looks again that the medium is there before it removes anything, and it never decides what goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.target import unfinished_snapshots
from drbdbackup.pipeline.target.open_target import OpenTarget
from drbdbackup.pipeline.target.target_protocol import Pruned, Removal
from drbdbackup.targets import layout, removal


def drop(at: OpenTarget, resource: str, snapshots: Iterable[tuple[str, str]], channel: Channel) -> None:
    """Remove these snapshots; one that is not there any more counts as removed.

    One that a restore of this node has begun to read by now stays. An engine cannot give back what it has
    removed, so the question is not asked again there: data stays until the next tidying, which waits for readers.
    """
    engine = at.medium.engine
    if engine is not None:
        reasons = {snapshot: reason for snapshot, reason in snapshots if not at.is_held(snapshot)}
        return engine.remove(resource, reasons, lambda snapshot: channel.send(Pruned(snapshot, reasons[snapshot])))
    removed = False
    for snapshot, reason in snapshots:
        at.check_still_there()
        folder = layout.published(at.root, resource, snapshot)
        if removal.retire(os.path.dirname(folder), os.path.basename(folder), partial(at.is_held, snapshot)):
            channel.send(Pruned(snapshot, reason))
            removed = True
    if removed:
        with suppress(OSError):  # somebody may have put something else there; it is a convenience
            layout.point_latest(at.root, resource)
    return None


def sweep(at: OpenTarget, of: Removal, but: str = "") -> None:
    """Remove what crashes left: snapshots that nobody works on any more (`but` stays), and unfinished removals.

    A name goes before what it names: a node that was frozen and wakes up must not publish what is half removed.
    """
    if at.medium.engine is not None:
        if not at.medium.engine.is_append_only:
            at.medium.engine.clear(of.resource, lambda name: name != but and unfinished_snapshots.is_over(name, of))
        return
    folder = layout.resource_folder(at.root, of.resource)
    for left in unfinished_snapshots.removable(at.root, of):
        if left != but:
            at.check_still_there()
            removal.retire(folder, os.path.basename(left))
    removal.sweep(folder)
    removal.sweep(layout.safety_folder(at.root, of.resource))
