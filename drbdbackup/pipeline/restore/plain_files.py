"""Restores what is plain: files of one name, folders and symlinks, with attributes that the manifest knows. rsync takes
twice as long.

It does the plain case only, from a medium that is mounted here and holds all that a file has, into a folder in which
nothing was before. Folders and symlinks get their metadata later (`apply_proven`), by the manifest. Whatever is odd (it
is missing, cannot be read, does not fit, has become something else) is taken back and left to rsync, which knows what
to do and what to say. It never follows a symlink, on neither side.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from stat import S_ISREG

from msgspec import Struct

from drbdbackup import open_flags
from drbdbackup.errors import Damaged
from drbdbackup.manifest import NO_ATTRIBUTES, RACY, ROOT, SETTLED, Recorded, is_odd_time, known_attributes, lacks_of
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import is_privileged
from drbdbackup.pipeline.files.content import copy_content, drop_cached, read_ahead
from drbdbackup.pipeline.files.metadata import ACCESS, SET_ID, attributes, gives_acls
from drbdbackup.pipeline.files.tree import ParentOpener, path_of
from drbdbackup.pipeline.restore.transfer_list import DEEPEST, TransferList
from drbdbackup.tools import rsync

_AHEAD = 64  # entries, of which the files are read by the kernel meanwhile


def is_plain(one: Recorded) -> bool:
    """Whether the manifest knows all that a file of one name has, and that gives no rights to who starts it."""
    entry = one.entry
    return entry.kind == b"f" and entry.nlink == 1 and not entry.mode & SET_ID and bool(one.hash) and knows_all(one)


def knows_all(one: Recorded) -> bool:
    """Whether the manifest knows all that an entry has, which was held as it is, and no attribute is of root's."""
    if one.flag not in (SETTLED, RACY) or is_odd_time(one.entry.mtime):
        return False
    try:
        known = known_attributes(one.attributes)
        if known is None or known is NO_ATTRIBUTES:
            return known is not None
        return not (known.digests or lacks_of(one.attributes) or any(map(is_privileged, known.values)))
    except Damaged:
        return False


class _Into(Struct):
    """An open folder that files are restored to; `owner` is whom a file made there belongs to, once one has been."""

    path: bytes
    handle: int
    gives_acls: bool
    owner: tuple[int, int] | None = None


class PlainFiles:
    """Restores what is plain among the entries that are added in merge order, and puts the others on the list.

    `count` entries are there, files with all that they have; `has_left` says whether rsync has to copy one that is
    plain. `problems` are attributes on the medium that do not come from there. `knows_root`: rsync has nothing to give
    to the root.
    """

    def __init__(
        self, data: int, folder: int, others: TransferList, on_restored: Callable[[Recorded, str], None],
        on_piece: Callable[[int], None],
    ) -> None:  # fmt: skip
        """From the open tree `data` of a copy into the open `folder`.

        `on_restored` gets each file with the hash of its content, `on_piece` how many bytes were copied, as it goes on
        (negative for what was taken back).
        """
        self.problems: list[Problem] = []
        self.count = 0
        self.has_left = False
        self.knows_root = False
        self._others = others
        self._on_restored = on_restored
        self._on_piece = on_piece
        self._source, self._target = ParentOpener(data), ParentOpener(folder)
        self._folder: _Into | None = None
        self._waiting: deque[tuple[Recorded, int]] = deque()
        self._copied = 0

    def add(self, one: Recorded) -> None:
        """Restore it soon, or put it on the list. Raises TargetFull."""
        self._waiting.append((one, self._opened(one) if is_plain(one) else -1))
        if len(self._waiting) > _AHEAD:
            self._next()

    def finish(self) -> None:
        """Do it for all that was added. Raises TargetFull."""
        while self._waiting:
            self._next()

    def close(self) -> None:
        """Let go of what is open."""
        for _, source in self._waiting:
            if source >= 0:
                os.close(source)
        self._source.close()
        self._target.close()

    def _opened(self, one: Recorded) -> int:
        """The file on the medium, open, which the kernel begins to read; -1 for rsync's."""
        try:
            above, name = self._source.parent(one.entry.path)
            source = os.open(name, open_flags.READ, dir_fd=above)
        except OSError:
            self.has_left = True
            return -1
        read_ahead(source)
        return source

    def _next(self) -> None:
        one, source = self._waiting.popleft()
        if source < 0:
            self._entry(one)
            return
        try:
            content = self._restored(one, source)
        finally:
            drop_cached(source)  # of the copy; what is restored will be needed
            os.close(source)
        if content:
            self.count += 1
            self._on_restored(one, content)
        else:
            self.has_left = True
            self._others.add(one)

    def _entry(self, one: Recorded) -> None:
        """What is no plain file: a folder or a symlink that is plain is made."""
        path, is_made = one.entry.path, False
        if path == ROOT:
            self.knows_root = knows_all(one)
        elif one.entry.kind in b"dl" and path.count(b"/") < DEEPEST - 1 and knows_all(one):
            self._folder = None  # it is open no longer than the way to this one needs it
            with suppress(OSError):
                is_made = self._folder_made(one) if one.entry.kind == b"d" else self._link_made(one)
        if is_made:
            self.count += 1
        else:
            self._others.add(one)

    def _folder_made(self, one: Recorded) -> bool:
        medium, _ = self._source.parent(one.entry.path + b"/.")
        self._look_at(one, lambda: attributes(medium))
        above, name = self._target.parent(one.entry.path)
        os.mkdir(name, 0o700, dir_fd=above)
        return True

    def _link_made(self, one: Recorded) -> bool:
        medium, name = self._source.parent(one.entry.path)
        if one.entry.nlink != 1 or os.readlink(name, dir_fd=medium) != one.entry.link:
            return False
        self._look_at(one, lambda: attributes(path_of(medium, name)))
        above, _ = self._target.parent(one.entry.path)
        os.symlink(one.entry.link, name, dir_fd=above)
        return True

    def _look_at(self, one: Recorded, read: Callable[[], dict[bytes, bytes]]) -> None:
        if why := self._others.odd_attributes(one, read):
            self.problems.append(Problem.at(one.entry.path, why))

    def _restored(self, one: Recorded, source: int) -> str:
        """The hash of its content, "" for what is left to rsync. Raises TargetFull."""
        try:
            seen = os.fstat(source)
            if not S_ISREG(seen.st_mode) or seen.st_size != one.entry.size:
                return ""
            why = self._others.odd_attributes(one, lambda: attributes(source))
            folder, name = self._entered(one.entry.path)
        except OSError:
            return ""
        content = self._made(folder, name, one, source, seen)
        if content and why:
            self.problems.append(Problem.at(one.entry.path, why))
        return content

    def _made(self, folder: _Into, name: bytes, one: Recorded, source: int, seen: os.stat_result) -> str:
        """The same. Nothing is left of it if it does not come to be all that it was."""
        content, is_whole, self._copied = "", False, 0
        try:
            target = os.open(name, open_flags.CREATE, 0o600, dir_fd=folder.handle)
        except OSError as error:
            _refuse_full(error)
            return ""
        try:
            try:
                content = copy_content(source, target, seen, self._came)
                with suppress(OSError):
                    _give(folder, target, one)
                    is_whole = True
            finally:
                os.close(target)  # on a share it may be this that finds no room
        except OSError as error:
            is_whole = False
            _refuse_full(error)
        finally:
            if not is_whole:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder.handle)
                self._on_piece(-self._copied)
        return content if is_whole else ""

    def _entered(self, path: bytes) -> tuple[_Into, bytes]:
        """The folder that it goes to, which is made where it is missing, and its name there."""
        above, _, name = path.rpartition(b"/")
        if self._folder is None or self._folder.path != above:
            self._folder = None
            try:
                handle, _ = self._target.parent(path)
            except FileNotFoundError:
                for end in (end for end, byte in enumerate(path) if byte == ord("/")):
                    into, missing = self._target.parent(path[:end])
                    with suppress(FileExistsError):
                        os.mkdir(missing, 0o700, dir_fd=into)
                handle, _ = self._target.parent(path)
            self._folder = _Into(above, handle, gives_acls(handle))
        return self._folder, name

    def _came(self, length: int, _: int) -> None:
        self._copied += length
        self._on_piece(length)


def _give(folder: _Into, target: int, one: Recorded) -> None:
    """Give it its metadata: owner first (it clears rights), then attributes, mode, and times last."""
    entry, known = one.entry, known_attributes(one.attributes) or NO_ATTRIBUTES
    if folder.owner is None:
        made = os.fstat(target)
        folder.owner = made.st_uid, made.st_gid
    if folder.owner != (entry.uid, entry.gid):
        os.fchown(target, entry.uid, entry.gid)
    for name, value in known.values.items():
        os.setxattr(target, name, value)
    if folder.gives_acls and ACCESS not in known.values:
        os.removexattr(target, ACCESS)
    os.fchmod(target, entry.mode)
    os.utime(target, ns=(entry.mtime, entry.mtime))


def _refuse_full(error: OSError) -> None:
    """Raises TargetFull where nothing more can be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise rsync.full(is_quota=error.errno == errno.EDQUOT) from None
