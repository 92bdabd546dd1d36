"""Copies plain files: regular, of one name, to a target that holds all that they have. It is twice as fast as rsync.

It does the plain case only. Whatever is odd (it vanished, cannot be read, does not fit, has become something else) is
taken back and left to rsync, which knows what to do and what to say. It never follows a symlink.
"""

from __future__ import annotations

import errno
import functools
import os
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from stat import S_IMODE, S_ISREG

from msgspec import Struct

from drbdbackup import open_flags
from drbdbackup.manifest import SETTLE_NS, is_odd_time, line_begins
from drbdbackup.pipeline.files.content import copy_content, read_ahead
from drbdbackup.pipeline.files.metadata import ACCESS, SET_ID, gives_acls
from drbdbackup.pipeline.files.page_cache import WRITE_BEHIND, CacheLook, ReadOnce, write_behind
from drbdbackup.tools.rsync import full

_AHEAD = 64  # files that the kernel reads meanwhile
# How a file system says that an owner or an attribute is too much for it. Of an attribute that is too large ext4 says
# that there is no space; where that is true the content of the next file says so.
_TOO_MUCH = (errno.ENOSPC, errno.EDQUOT, errno.E2BIG, errno.ERANGE, errno.ENOTSUP, errno.EINVAL, errno.EOVERFLOW)
_NOTHING: frozenset[str] = frozenset()


class _Folder(Struct):
    """A folder of source and target, open; `inode` is that of the source's. `owner` is whom a file made there belongs
    to, once one has been.
    """

    path: bytes
    source: int
    target: int
    inode: int
    gives_acls: bool
    owner: tuple[int, int] | None = None

    def close(self) -> None:
        """Let go of it."""
        os.close(self.source)
        os.close(self.target)


class PlainRead(Struct, frozen=True):
    """What was read for a copy: `begins` is how its spool line begins if it is what the walk saw, `folder` the inode of
    the folder that it was in.
    """

    begins: bytes
    seen: os.stat_result
    folder: int


class PlainCopier:
    """Copies files in the order in which they are added, each some way behind, since the source is read ahead."""

    def __init__(
        self, source: str, data: str, on_piece: Callable[[int, int], None],
        on_copied: Callable[[bytes, bytes, PlainRead, Collection[str], Mapping[bytes, bytes]], None],
        reading: ReadOnce | None = None, *, is_clone: bool,
    ) -> None:  # fmt: skip
        """From below `source` to below `data`; `is_clone`: older files are there, and are replaced.

        `on_piece` gets how many bytes were copied, as it goes on (negative for what was taken back), and how many were
        read for that, `on_copied` for each file its path, the hash of its content, what was read, what
        of it the target cannot hold, and the attributes that it was given. What it does not get is a matter for rsync,
        and nothing is left of it. `reading` are the copies that read the source at the same time.
        """
        self._reading = reading or ReadOnce()
        self._look = CacheLook(0, b"")
        self._from = self._to = -1
        self._roots = source, data
        self._is_clone = is_clone
        self._on_piece = on_piece
        self._on_copied = on_copied
        self._folder: _Folder | None = None
        self._waiting: deque[tuple[_Folder, bytes, bytes, int, CacheLook, int | None]] = deque()
        self._copied = self._begun = 0

    def add(self, path: bytes, number: int = 0, most: int | None = None) -> None:
        """Copy this file, soon, and no more than `most` bytes of it; its number is that of its spool line.

        Raises TargetFull.
        """
        folder, _, name = path.rpartition(b"/")
        try:
            here = self._folder if self._folder and self._folder.path == folder else self._enter(folder)
            source = os.open(name, open_flags.READ, dir_fd=here.source)
        except OSError:
            return
        look = self._reading.look(number, source)
        read_ahead(source)
        self._waiting.append((here, path, name, source, look, most))
        if len(self._waiting) > _AHEAD:
            self._next()

    def finish(self) -> None:
        """Copy what has been added and let go of all folders. Raises TargetFull."""
        self.catch_up()
        self._leave()

    def catch_up(self) -> None:
        """Copy what has been added. Raises TargetFull."""
        while self._waiting:
            self._next()

    def _enter(self, folder: bytes) -> _Folder:
        self._leave()
        with ExitStack() as undo:
            source = opened_below(self._roots[0], folder)
            undo.callback(os.close, source)
            target = opened_below(self._roots[1], folder)
            undo.callback(os.close, target)
            self._folder = _Folder(folder, source, target, os.fstat(source).st_ino, gives_acls(target))
            undo.pop_all()
            return self._folder

    def _leave(self) -> None:
        """Nothing more comes from this folder: whoever copies its last file closes it."""
        folder, self._folder = self._folder, None
        if folder is not None and not (self._waiting and self._waiting[-1][0] is folder):
            folder.close()

    def _next(self) -> None:
        folder, path, name, source, look, most = self._waiting.popleft()
        self._look, self._from = look, source
        try:
            copied = self._copy(folder, name, source, most)
            if copied is not None:
                self._on_copied(path, *copied)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise full(is_quota=error.errno == errno.EDQUOT) from None
        finally:
            self._reading.finished(look, source)
            os.close(source)
        if folder is not self._folder and not (self._waiting and self._waiting[0][0] is folder):
            folder.close()

    def _copy(
        self, folder: _Folder, name: bytes, source: int, most: int | None
    ) -> tuple[bytes, PlainRead, Collection[str], Mapping[bytes, bytes]] | None:
        """What `on_copied` gets; None for what is no regular file any more."""
        seen = os.fstat(source)
        if not S_ISREG(seen.st_mode):
            return None
        if self._is_clone:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder.target)
        self._to = target = os.open(name, open_flags.CREATE, 0o600, dir_fd=folder.target)
        self._copied = self._begun = 0
        try:
            content = copy_content(source, target, seen, self._came, most).encode()
            given = dict[bytes, bytes]()
            lacks = self._given(folder, source, target, seen, given)
        except BaseException:
            os.unlink(name, dir_fd=folder.target)
            self._on_piece(-self._copied, 0)
            raise
        finally:
            os.close(target)
        mode = S_IMODE(seen.st_mode)
        begins = line_begins(b"f", mode, seen.st_uid, seen.st_gid, self._copied, seen.st_mtime_ns)
        return content, PlainRead(begins, seen, folder.inode), lacks, given

    def _came(self, length: int, read: int) -> None:
        self._copied += length
        self._reading.came(self._look, self._from, length)
        if self._copied - self._begun >= WRITE_BEHIND:
            self._begun = write_behind(self._to, self._begun, self._copied)
        self._on_piece(length, read)

    def _given(
        self, folder: _Folder, source: int, target: int, seen: os.stat_result, given: dict[bytes, bytes]
    ) -> frozenset[str]:
        """Give it its metadata; what of that the target cannot hold. The attributes come into `given`."""
        lacks = _NOTHING
        try:
            self._give(folder, source, target, seen, given)
        except OSError as error:
            if error.errno not in _TOO_MUCH:
                raise
            lacks = _give_singly(source, target, seen, given)
        if is_odd_time(seen.st_mtime_ns) and abs(os.fstat(target).st_mtime_ns - seen.st_mtime_ns) > SETTLE_NS:
            lacks |= {"times"}
        return lacks

    def _give(
        self, folder: _Folder, source: int, target: int, seen: os.stat_result, given: dict[bytes, bytes]
    ) -> None:
        """Owner first (it clears setuid), then attributes, mode, and times last."""
        if folder.owner is None:
            made = os.fstat(target)
            folder.owner = made.st_uid, made.st_gid
        if folder.owner != (seen.st_uid, seen.st_gid):
            os.fchown(target, seen.st_uid, seen.st_gid)
        names = os.listxattr(source)
        for name in names:
            _give_attribute(source, target, name, given)
        if folder.gives_acls and ACCESS not in names:
            os.removexattr(target, ACCESS)
        os.fchmod(target, S_IMODE(seen.st_mode))
        os.utime(target, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def _give_attribute(source: int, target: int, name: str, given: dict[bytes, bytes]) -> None:
    value = given[os.fsencode(name)] = os.getxattr(source, name)
    os.setxattr(target, name, value)


def _give_singly(source: int, target: int, seen: os.stat_result, given: dict[bytes, bytes]) -> frozenset[str]:
    """Each on its own, after one of them did not go in; what of them does not."""
    lacks: set[str] = set()

    def attempt(what: str, effect: Callable[[], object]) -> None:
        try:
            effect()
        except OSError as error:
            if error.errno not in _TOO_MUCH:
                raise
            lacks.add(what)

    given.clear()
    attempt("owner", lambda: os.fchown(target, seen.st_uid, seen.st_gid))
    for name in os.listxattr(target):  # what is inherited from a default ACL
        if name == ACCESS:
            os.removexattr(target, name)
    for name in os.listxattr(source):
        attempt("attributes", functools.partial(_give_attribute, source, target, name, given))
    mode = S_IMODE(seen.st_mode)
    if "owner" in lacks and mode & SET_ID:  # anybody can have a program of his own run as himself; this one is root's
        mode &= ~SET_ID
        lacks.add("mode")
    attempt("mode", lambda: os.fchmod(target, mode))
    attempt("times", lambda: os.utime(target, ns=(seen.st_mtime_ns, seen.st_mtime_ns)))
    return frozenset(lacks)


def opened_below(root: str, folder: bytes) -> int:
    """A folder below `root`, reached without following a symlink."""
    fd = os.open(root, open_flags.FOLDER & ~os.O_NOFOLLOW)
    for part in folder.split(b"/") if folder else ():
        above, fd = fd, -1
        try:
            fd = os.open(part, open_flags.FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return fd
