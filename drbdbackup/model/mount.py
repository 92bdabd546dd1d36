"""One line of the kernel's mount table."""

from __future__ import annotations

from msgspec import Struct


class Mount(Struct, frozen=True, kw_only=True):
    """A mount: `device` is "major:minor" (anonymous for btrfs, NFS), `source` the mount source field (unescaped)."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    point: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()
    propagation: tuple[str, ...] = ()
