"""A mounted share (or any folder, if the configuration says so) as a target. It never mounts anything itself.

Every access may hang when the server is gone: only for use in a cage.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import Damaged, NotMounted, TargetError, TargetReadOnly, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.targets import mark
from drbdbackup.targets.medium import Medium
from drbdbackup.tools import blkid, mounts


class NasTarget:
    """The target of kind "nas"."""

    def __init__(self, config: TargetConfig, marks: str | None = None) -> None:
        """Nothing is mounted, so `marks` is not used."""
        self.config = config

    @contextmanager
    def opened(self, node: str, *, write: bool) -> Iterator[Medium]:
        """The share, for the time of the block; while it is open it cannot be unmounted by mistake.

        Raises NotMounted, TargetReadOnly.
        """
        path = self.config.path
        with there(self.config) as (fd, seen):
            if write and os.fstatvfs(fd).f_flag & os.ST_RDONLY:
                raise TargetReadOnly(f"{path} is mounted read-only", "See `dmesg`, and its entry in /etc/fstab.")
            identity, problem = None, ""
            try:
                identity = mark.read(path)
            except Damaged as error:
                problem = error.message
            yield Medium(
                root=path, config=self.config, identity=identity, filesystem_uuid=_uuid(seen),
                fstype=seen.fstype if seen else "", location=self.config.location(node),
                holder=self.config.holder(node), mark_problem=problem,
            )  # fmt: skip


@contextmanager
def there(share: TargetConfig) -> Iterator[tuple[int, Mount | None]]:
    """The share's folder as a descriptor, and its mount, for callers that need not know which medium it is.

    Raises NotMounted, also if only the bare folder is there; TargetError.
    """
    path = share.path
    with _held(path) as fd:
        seen = mount_of(fd, path)
        if seen is None and share.require_mount:
            raise NotMounted(f"nothing is mounted at {path}", f"Mount the share: `mount {path}`. Is its server up?")
        yield fd, seen


@contextmanager
def _held(path: str) -> Iterator[int]:
    """Keep the folder open; yields its descriptor. Opening `path/.` makes autofs mount it."""
    try:
        fd = os.open(os.path.join(path, "."), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotMounted(f"{path} is not a folder", f"Make it and mount the share there: `mkdir {path}`") from None
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error.strerror}", "Is its server up? See `dmesg`.") from None
    try:
        yield fd
    finally:
        os.close(fd)


def mount_of(fd: int, path: str) -> Mount | None:
    """The mount at `path`, and only if it is the one that the open folder lies on."""
    seen = mounts.mounted_at(mounts.table(), os.path.realpath(path))
    return seen if seen is not None and seen.mount_id == mounts.mount_id_of(fd) else None


def _uuid(seen: Mount | None) -> str:
    """The file system's UUID where the "share" is a device on this node; a network file system shows none."""
    if seen is not None and seen.source.startswith("/dev/"):
        with suppress(OSError, ToolError, TargetError):
            if stat.S_ISBLK(os.stat(seen.source).st_mode):
                return blkid.filesystem(seen.source).uuid
    return ""
