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


class OwnersHoles:
    """Counts the holes in the files that it is asked about. All owners with subordinate ids count as one."""

    def __init__(self, most: int = MOST, *, each_name: bool = False, but_of_root: bool = False) -> None:
        """Nobody has any yet. `each_name`: a file counts with each name. `but_of_root`: root may have any number."""
        self._most = most
        self._but_of_root = but_of_root
        self._each_name = each_name
        self._bytes: dict[int, int] = {}
        self._counted: set[int] = set()

    def refused(self, seen: os.stat_result) -> str:
        """Why a regular file is one too many of its owner; "" if it is not. What is refused does not count."""
        size = seen.st_size - allocated(seen) if seen.st_size >= HOLED else 0
        if not size or (self._but_of_root and not seen.st_uid) or (seen.st_nlink > 1 and seen.st_ino in self._counted):
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


def where_they_are_read(*, each_name: bool) -> OwnersHoles:
    """For what does not skip holes: fewer. What root has he needs, and nobody forged."""
    return OwnersHoles(MOST_READ, each_name=each_name, but_of_root=True)


class LargeFiles:
    """Looks at large files of a walk in the volume: those with more holes than where these are read are `refused`."""

    def __init__(self, source: str, *, each_name: bool) -> None:
        """None was met yet. `each_name`: see `OwnersHoles`."""
        self._source = os.fsencode(source)
        self._holes = where_they_are_read(each_name=each_name)

    def refused(self, line: bytes) -> str:
        """Why the file of a spool line is left out; "" for any other entry."""
        if not line.startswith(b"f") or int(line.split(b" ", 5)[4]) < HOLED:
            return ""
        with suppress(OSError):
            return self._holes.refused(os.lstat(os.path.join(self._source, path_of(line))))
        return ""
