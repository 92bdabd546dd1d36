"""A copy that is held back: the source was suspiciously small. It stays out of sight, whole, until the next run.

It is one more `.partial-`: never taken for a backup, linked from by the next run (`--accept-shrink`), and never more
than one of them on a target.
"""

from __future__ import annotations

import os

from drbdbackup import manifest
from drbdbackup.pipeline.making import COPIED, MANIFEST
from drbdbackup.pipeline.opening import Opened
from drbdbackup.targets import layout, removal


def keep(at: Opened, resource: str, fresh: str) -> str:
    """Leave the copy in `fresh` as the only one under way; where it lies, for people. Raises TargetError, OSError."""
    at.check_still_there()
    folder = os.path.dirname(fresh)
    for left in layout.partials(at.root, resource):
        if left != fresh:
            removal.remove_tree(folder, os.fsencode(os.path.basename(left)))
    layout.sync(at.root)
    with manifest.reading(os.path.join(fresh, MANIFEST)) as lines:
        draft = os.path.join(fresh, f"{COPIED}.tmp")
        with open(draft, "wb") as copied:
            copied.writelines(lines)
    os.rename(draft, os.path.join(fresh, COPIED))
    return f"held back on {at.medium.location} as {os.path.relpath(fresh, at.root)}"
