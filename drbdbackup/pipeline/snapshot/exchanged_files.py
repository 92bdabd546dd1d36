"""Owner and mode of files that somebody exchanged or changed between the walk and the copy.

Whoever owns a folder can exchange a file of his in it for one of root's at any moment: then the walk saw his, and the
copy has the content of root's. A restore would give it to him. So owner and mode in the manifest are those of the very
file that was read; where that is in another folder than the walk saw, nobody but its owner has any rights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from stat import S_IMODE

from msgspec import Struct

from drbdbackup import open_flags
from drbdbackup.manifest import ROOT, path_of
from drbdbackup.pipeline.files.tree import ParentOpener

_OF_OTHERS = 0o022
_OWNERS = 0o700


class WalkedFolder(Struct, frozen=True):
    """A folder as the walk saw it. `is_open`: others than root can exchange what is in it."""

    path: bytes
    inode: int
    ctime: int
    is_open: bool
    above: WalkedFolder | None = None


class FoldersAbove:
    """The folders that the walk is in, for lines in merge order."""

    def __init__(self) -> None:
        """None has been entered yet."""
        self.deepest: WalkedFolder | None = None

    def entered(self, line: bytes) -> None:
        """A folder's spool line; what follows is in it."""
        path = path_of(line)
        _, mode, uid, _, _, _, ctime, inode, _ = line.split(b" ", 8)
        is_open = uid != b"0" or bool(int(mode, 8) & _OF_OTHERS)
        self.deepest = WalkedFolder(b"" if path == ROOT else path, int(inode), int(ctime), is_open, self.above(path))

    def above(self, path: bytes) -> WalkedFolder | None:
        """The folder that an entry is in."""
        here = self.deepest
        while here is not None and here.path and not path.startswith(here.path + b"/"):
            here = here.above
        return None if path == ROOT else here


def as_read(line: bytes, read: os.stat_result, folder: int, walked: WalkedFolder | None) -> bytes:
    """The spool line of a file with the owner and the mode of what was read, where that is not what the walk saw.

    `folder` is the inode of the folder that it was read in, and `walked` what the walk saw of that.
    """
    kind, _, _, _, size, mtime, ctime, inode, rest = line.split(b" ", 8)
    if (int(ctime), int(inode)) == (read.st_ctime_ns, read.st_ino):
        return line
    mode = S_IMODE(read.st_mode)
    if int(inode) != read.st_ino and (walked is None or walked.inode != folder):
        mode &= _OWNERS
    return b"%c %o %d %d %b %b %b %b %b" % (kind, mode, read.st_uid, read.st_gid, size, mtime, ctime, inode, rest)


def as_taken(line: bytes, taken: os.stat_result) -> bytes:
    """The same for what another program has taken, from whatever folder: it shows owner and mode of what it read."""
    kind, mode, uid, gid, rest = line.split(b" ", 4)
    if (int(mode, 8), int(uid), int(gid)) == (S_IMODE(taken.st_mode), taken.st_uid, taken.st_gid):
        return line
    return b"%c %o %d %d %b" % (kind, taken.st_mode & _OWNERS, taken.st_uid, taken.st_gid, rest)


class SourceLook:
    """Looks at files after another program has copied them by their names."""

    def __init__(self, source: int) -> None:
        """`source` is the open volume; it stays the caller's to close."""
        self._source = source
        self._unmoved: dict[bytes, bool] = {}

    @contextmanager
    def opened(self, path: bytes) -> Iterator[tuple[int, os.stat_result, int]]:
        """A file, open, what fstat(2) says of it, and the inode of its folder. Raises OSError."""
        with closing(ParentOpener(self._source)) as opener:
            above, name = opener.parent(path)
            file = os.open(name, open_flags.READ, dir_fd=above)
            try:
                yield file, os.fstat(file), os.fstat(above).st_ino
            finally:
                os.close(file)

    def is_unmoved(self, walked: WalkedFolder | None) -> bool:
        """Whether nobody can have had another folder here since the walk. Where nobody may, it is not looked at."""
        chain = list[WalkedFolder]()
        while walked is not None and walked.path not in self._unmoved:
            chain.append(walked)
            walked = walked.above
        is_unmoved = walked is None or self._unmoved[walked.path]
        for folder in reversed(chain):
            is_safe = folder.above is None or not folder.above.is_open
            is_unmoved = is_unmoved and (is_safe or self._is_as_walked(folder))
            self._unmoved[folder.path] = is_unmoved
        return is_unmoved

    def _is_as_walked(self, walked: WalkedFolder) -> bool:
        try:
            with closing(ParentOpener(self._source)) as opener:
                above, name = opener.parent(walked.path)
                folder = os.open(name, open_flags.FOLDER, dir_fd=above)
                try:
                    seen = os.fstat(folder)
                finally:
                    os.close(folder)
        except OSError:
            return False
        return (seen.st_ino, seen.st_ctime_ns) == (walked.inode, walked.ctime)
