"""A finished snapshot gets its name on its target. Whatever was not on the medium before is by then.

Nothing is published while the source, or the right to it, may be gone: the caller's check is the last thing before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drbdbackup.catalog.bodies import copy_body
from drbdbackup.pipeline.snapshot.link_sources import clear_notes
from drbdbackup.pipeline.target.open_target import OpenTarget
from drbdbackup.targets import layout, sidecar
from drbdbackup.targets.sidecar import Sidecar
from drbdbackup.tools import btrfs


def publish(
    at: OpenTarget, fresh: str, new_sidecar: Sidecar, check_source: Callable[[], None], *, again: bool = False
) -> dict[str, Any]:
    """Write the sidecar into the folder `fresh` and rename that to the snapshot's name; the body of its "copy" fact.

    With `again` it takes the place of the one that has this name. All but the sidecar is on the medium since the copy
    was settled, and a document brings itself there. Raises TargetError, OSError, and what `check_source` raises.
    """
    at.check_still_there()
    sidecar.write(fresh, new_sidecar)
    clear_notes(fresh)
    if at.abilities.subvolumes:
        btrfs.set_read_only(layout.data(fresh), read_only=True)
        layout.sync(at.root)
    check_source()  # since the supervisor said so the node may have had to let go of it
    if again:
        layout.publish_again(at.root, new_sidecar.resource, new_sidecar.snapshot)
        return copy_body(layout.copy_of(at.root, new_sidecar, at.medium.location))
    named = new_sidecar.named(layout.publish(at.root, new_sidecar.resource, new_sidecar.snapshot))
    return copy_body(layout.copy_of(at.root, named, at.medium.location))
