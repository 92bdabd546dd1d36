"""How many bytes of holes the files of one owner may have, all together.

A user of the volume makes terabytes of holes for nothing, in as many files as he likes, and they are hashed in each
copy, verify and restore. So there is a bound for each owner: nobody makes a night last for hours, and nobody else's
files are left out for his.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from drbdbackup.manifest import path_of
from drbdbackup.scan import HOLED, TOO_LARGE, allocated

MOST = 64 << 40  # bytes; they are hashed at 47 GiB/s, so these take 23 minutes
MOST_READ = 2 << 40  # bytes, where holes are read: four hours for restic, and for a share at 1 Gbit/s
_SUBORDINATE = 100_000  # from here on begin the ids of which a user may have 65,536 beside his own (subuid(5))
_REMEMBERED = 1 << 20  # files of several names, which are counted once; further ones count with each name


class HoleQuota:
    """Counts the holes of each owner in the files that it is asked about. All subordinate ids count as one owner."""

    def __init__(self, most: int = MOST, *, each_name: bool = False, exempt_root: bool = False) -> None:
        """Nothing is counted yet. `each_name`: a file counts with each name. `exempt_root`: root's files do not."""
        self._most = most
        self._exempt_root = exempt_root
        self._each_name = each_name
        self._bytes: dict[int, int] = {}
        self._counted: set[int] = set()

    def refused(self, seen: os.stat_result) -> str:
        """Why a regular file is one too many of its owner; "" if it is not. What is refused does not count."""
        size = seen.st_size - allocated(seen) if seen.st_size >= HOLED else 0
        if not size or (self._exempt_root and not seen.st_uid) or (seen.st_nlink > 1 and seen.st_ino in self._counted):
            return ""
        owner = min(seen.st_uid, _SUBORDINATE)
        if self._bytes.get(owner, 0) + size > self._most:
            may = f"the files of uid {seen.st_uid} may have {self._most >> 40} TiB of them"
            return f"{TOO_LARGE}{seen.st_size} bytes, {size} of them holes, and {may}: it is not copied"
        self._bytes[owner] = self._bytes.get(owner, 0) + size
        if seen.st_nlink > 1 and not self._each_name and len(self._counted) < _REMEMBERED:
            self._counted.add(seen.st_ino)
        return ""

    def check(self, seen: os.stat_result) -> None:
        """Raises OSError for a file that is refused."""
        if why := self.refused(seen):
            raise OSError(errno.EOVERFLOW, why)


def quota_where_read(*, each_name: bool) -> HoleQuota:
    """The lower quota, for what reads holes. Root's files are needed, and no user made them."""
    return HoleQuota(MOST_READ, each_name=each_name, exempt_root=True)


class SpoolHoleQuota:
    """The lower quota, for the files of the walk's list, where what copies them reads holes."""

    def __init__(self, source: str, *, each_name: bool) -> None:
        """`source` is the volume's top. `each_name`: see `HoleQuota`."""
        self._source = os.fsencode(source)
        self._quota = quota_where_read(each_name=each_name)

    def refused(self, line: bytes) -> str:
        """Why the file of a spool line is left out; "" for any other entry."""
        if not line.startswith(b"f") or int(line.split(b" ", 5)[4]) < HOLED:
            return ""
        with suppress(OSError):
            return self._quota.refused(os.lstat(os.path.join(self._source, path_of(line))))
        return ""
