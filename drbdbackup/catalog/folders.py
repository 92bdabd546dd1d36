"""Where a node keeps its catalog and the other nodes': the layout of the state folder, private to root.

Names only, in one place, so that all who read and write there agree. It opens no catalog.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from drbdbackup.errors import hint_for

AS_ROOT = "Run it as root: what is known of the backups is root's alone."


def path_of(state_dir: str) -> str:
    """The node's own catalog."""
    return os.path.join(state_dir, "catalog.db")


def published_path(state_dir: str, node: str) -> str:
    """The file that the node gives to others."""
    return os.path.join(state_dir, "published", f"{node}.db")


def incoming_folder(state_dir: str, road: str) -> str:
    """Where the catalogs that came by a road are copied to before anyone opens them."""
    return os.path.join(state_dir, "incoming", road)


def held_folder(state_dir: str) -> str:
    """Where the copies that are being read have a lock file each: see `pipeline.target.copies_in_use`."""
    return os.path.join(state_dir, "held")


def private_folder(path: str) -> None:
    """Make a folder, and those above it that are missing, readable by nobody else.

    One that is there becomes so too, if it is ours; those above it stay as they are.
    """
    above = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(above):
        private_folder(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        os.chmod(path, 0o700)


def hint_of(error: OSError) -> str:
    """What to do about an error of the disk that holds the state folder."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return AS_ROOT
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space on the disk that holds state_dir."
    return hint_for(error.errno) or "Is state_dir on a healthy local disk?"
