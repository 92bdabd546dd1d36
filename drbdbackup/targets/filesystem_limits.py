"""What a file system is known not to hold, by its kind, for a forecast: nothing is tried here, as nothing is written.

Of what is not known (a share, a new file system) nothing is foretold.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from drbdbackup.manifest import Entry

_ALWAYS = 1 << 62
_OLD = -(1 << 31)  # seconds: 1901
_SMALL_INODES = (1 << 31) - 1  # 2038
_LARGE_INODES = (1 << 34) - (1 << 31) - 1  # 2446, ext4 with inodes of 256 bytes
_DOS = (315_532_800 - 86_400, 4_354_819_200 + 86_400)  # 1980 to 2107, in any time zone
_ATTRIBUTES_OVERHEAD = 64  # bytes that the block of an inode's attributes needs itself
_ATTRIBUTE_OVERHEAD = 20  # and for each of them, beside name and value


class Bounds(Struct, frozen=True, kw_only=True):
    """The largest file and all attributes of an entry in bytes, the times in seconds."""

    file: int = _ALWAYS
    attributes: int = _ALWAYS
    earliest: int = -_ALWAYS
    latest: int = _ALWAYS

    def is_too_large(self, entry: Entry) -> bool:
        """Whether it has no room for this file."""
        return entry.kind == b"f" and entry.size > self.file

    def lacks(self, entry: Entry, attributes: Mapping[bytes, bytes]) -> frozenset[str]:
        """What of an entry it cannot hold, in the manifest's words."""
        held = self.earliest <= entry.mtime // 10**9 <= self.latest
        takes = _ATTRIBUTES_OVERHEAD + sum(
            _ATTRIBUTE_OVERHEAD + len(name) + len(value) for name, value in attributes.items()
        )
        fits = not attributes or takes <= self.attributes
        return frozenset(({"times"} if not held else set()) | ({"attributes"} if not fits else set()))


def bounds(fstype: str, block: int, *, nanoseconds: bool) -> Bounds:
    """Those of a file system with blocks of so many bytes. `nanoseconds`: it is not known to have small inodes."""
    latest = _LARGE_INODES if nanoseconds else _SMALL_INODES
    if fstype == "ext4":
        return Bounds(file=(block << 32) - block, attributes=block, earliest=_OLD, latest=latest)
    if fstype in ("ext2", "ext3"):
        return Bounds(file=1 << 41, attributes=block, earliest=_OLD, latest=latest)
    if fstype in ("vfat", "msdos", "exfat"):
        return Bounds(file=_ALWAYS if fstype == "exfat" else (1 << 32) - 1, earliest=_DOS[0], latest=_DOS[1])
    return Bounds()
