"""Copies plain files: regular, of one name, to a target that holds all that they have. It is twice as fast as rsync.

It does the plain case only. Whatever is odd (it vanished, cannot be read, does not fit, has become something else) is
taken back and left to rsync, which knows what to do and what to say. It never follows a symlink.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from stat import S_IMODE, S_ISREG

from drbdbackup.errors import TargetFull

_PIECE = 1 << 17
_HOLE = bytes(_PIECE)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to wait for a writer, if it is a FIFO by now
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT, _ACCESS = "system.posix_acl_default", "system.posix_acl_access"


class Plain:
    """Copies files one after another; keeps the folder of the last one open until `let_go`."""

    def __init__(self, source: str, data: str, is_clone: bool, on_piece: Callable[[int], None]) -> None:
        """From below `source` to below `data`; `is_clone`: older files are there, and are replaced.

        `on_piece` is told how many bytes were copied, as it goes on.
        """
        self._roots = source, data
        self._is_clone = is_clone
        self._on_piece = on_piece
        self._folder: bytes | None = None
        self._source = self._target = -1
        self._is_given_acls = False

    def copy(self, path: bytes) -> bytes:
        """The hash of the content that was copied; empty if it is a matter for rsync, and nothing is left of it.

        Raises TargetFull.
        """
        folder, _, name = path.rpartition(b"/")
        try:
            if folder != self._folder:
                self._enter(folder)
            if self._is_clone:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._target)
            source = os.open(name, _READ, dir_fd=self._source)
            try:
                return self._copy(source, name)
            finally:
                os.close(source)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "Remove something there, or let it keep fewer copies."
                raise TargetFull("no space is left on the target", hint) from None
            return b""

    def let_go(self) -> None:
        """Close the folder."""
        for fd in (self._source, self._target):
            if fd >= 0:
                os.close(fd)
        self._folder, self._source, self._target = None, -1, -1

    def _enter(self, folder: bytes) -> None:
        self.let_go()
        self._source, self._target = _opened(self._roots[0], folder), -1
        self._target = _opened(self._roots[1], folder)
        self._is_given_acls = _DEFAULT in os.listxattr(self._target)
        self._folder = folder

    def _copy(self, source: int, name: bytes) -> bytes:
        seen = os.fstat(source)
        if not S_ISREG(seen.st_mode):
            return b""
        target = os.open(name, _MAKE, 0o600, dir_fd=self._target)
        try:
            content = self._bring(source, target, seen.st_size)
            os.fchown(target, seen.st_uid, seen.st_gid)
            self._give_attributes(source, target)
            os.fchmod(target, S_IMODE(seen.st_mode))
            os.utime(target, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
        except BaseException:
            os.unlink(name, dir_fd=self._target)
            raise
        finally:
            os.close(target)
        return content

    def _bring(self, source: int, target: int, size: int) -> bytes:
        """So much of the content (a log may grow for ever), with holes where there are only zeros; its hash."""
        import xxhash

        state, length, is_hole = xxhash.xxh128(), 0, False
        while piece := os.read(source, min(_PIECE, size - length)):
            state.update(piece)
            length += len(piece)
            if is_hole := piece == _HOLE:
                os.lseek(target, length, os.SEEK_SET)
            else:
                _write(target, piece)
            self._on_piece(len(piece))
        if is_hole:
            os.ftruncate(target, length)
        return state.hexdigest().encode()

    def _give_attributes(self, source: int, target: int) -> None:
        names = os.listxattr(source)
        for name in names:
            os.setxattr(target, name, os.getxattr(source, name))
        if self._is_given_acls and _ACCESS not in names:
            os.removexattr(target, _ACCESS)


def _opened(root: str, folder: bytes) -> int:
    """A folder below `root`, reached without following a symlink."""
    fd = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    for part in folder.split(b"/") if folder else ():
        above, fd = fd, -1
        try:
            fd = os.open(part, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return fd


def _write(target: int, piece: bytes) -> None:
    written = os.write(target, piece)
    while written < len(piece):
        written += os.write(target, piece[written:])
