"""What killed runs of this node have left in its volume group, and its removal.

A note says that there may be something: written before a snapshot is made, removed after that is. So it is found, too,
once `snapshot` has been taken out of the configuration, and a run that stands down does not ask LVM for nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress

from drbdbackup.config.values import Config, ResourceConfig
from drbdbackup.errors import SourceError, ToolError
from drbdbackup.pipeline.volume import lvm_volume
from drbdbackup.targets import document
from drbdbackup.tools import lvm
from drbdbackup.tools.lvm import LogicalVolume


def sweep(config: Config, resource: ResourceConfig) -> None:
    """Remove what is left of the resource. The caller holds the lock. The doctor reports what cannot be removed."""
    if not is_noted(config, resource):
        return
    with suppress(SourceError, ToolError):
        left = lvm_volume.below(resource, config.role.timeout).left
        stuck = [one for one in left if not _is_removed(one)]
        if not stuck:
            forget(config, resource)


def is_noted(config: Config, resource: ResourceConfig) -> bool:
    """Whether something may be left of the resource."""
    return os.path.exists(_note(config, resource))


def note(config: Config, resource: ResourceConfig, snapshot: str) -> None:
    """Note that the snapshot of that full name is about to be made. Raises OSError."""
    document.write(os.path.realpath(_note(config, resource)), {"snapshot": snapshot})


def forget(config: Config, resource: ResourceConfig) -> None:
    """Note that none is left."""
    with suppress(OSError):  # a note too many does no harm
        os.unlink(_note(config, resource))


def _is_removed(left: LogicalVolume) -> bool:
    try:
        lvm.remove(left)
    except ToolError:
        return False
    return True


def _note(config: Config, resource: ResourceConfig) -> str:
    return os.path.join(config.state_dir, f"lvm-{resource.name}.json")
