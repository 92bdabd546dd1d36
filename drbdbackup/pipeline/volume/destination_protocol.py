"""Where a restore writes to: the live volume, or a folder."""

from __future__ import annotations

from msgspec import Struct

from drbdbackup.model.mount import MountIdentity


class OverVolume(Struct, frozen=True, tag_field="over", tag="volume"):
    """The live volume at `source`; `mounted` is what was there when it was judged (`guard.identity`)."""

    source: str
    mounted: MountIdentity | None

    @property
    def path(self) -> str:
        """Its folder."""
        return self.source


class ToFolder(Struct, frozen=True, tag_field="over", tag="folder"):
    """The folder `to`, which has to be empty or absent, unless it may be merged into what is there."""

    to: str
    merge: bool

    @property
    def path(self) -> str:
        """Its folder."""
        return self.to


Destination = OverVolume | ToFolder
