"""One line of the kernel's mount table, and what of it must stay the same.

Values only: `tools.mounts` reads the table.
"""

from __future__ import annotations

from msgspec import Struct


class MountIdentity(Struct, frozen=True, kw_only=True):
    """What of a mount must stay the same while it is used; see `Mount`."""

    device: str
    source: str
    fstype: str
    root: str


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

    @property
    def identity(self) -> MountIdentity:
        """What of it must stay the same."""
        return MountIdentity(device=self.device, source=self.source, fstype=self.fstype, root=self.root)

    def may_show_device(self) -> bool:
        """Whether `source` can be believed: any user may mount FUSE where he owns a folder, and call it as he likes."""
        return self.fstype != "fuse" and not self.fstype.startswith("fuse.")
