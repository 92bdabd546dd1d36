"""The tree of a snapshot that retention drops, as the beginning of the next one: only what differs is changed in it.

A name in it stays if it is the very inode that would be linked there, as the two folders' own lists of names say. So
nothing has to be believed of the old snapshot: what stays is what a link from the newest copy would be. Everything else
is removed here, before anything is linked or copied in its place.

Its inodes belong to older snapshots, too. No file of it is ever opened, written to or given an attribute: its name
stays or goes. Only folders are changed in place, by linking and copying into them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from msgspec import Struct

from drbdbackup import durable, open_flags
from drbdbackup.errors import TargetError
from drbdbackup.manifest import ROOT
from drbdbackup.pipeline.snapshot.plan import Planned, Step
from drbdbackup.targets import layout, removal
from drbdbackup.tools import mounts

_LARGEST = 100_000  # names in a folder, of which all are held: 160 bytes each. A larger folder is made anew
_DEEPEST = 200  # folders, each of which is open; below that they are made anew
_FOLDERS, _SAME = -1, -2  # in place of an inode: that of a folder, and that which would be linked there


class UnusableTreeError(Exception):
    """Something in it cannot be removed, an immutable file perhaps: the copy has to begin with an empty folder."""


class _Level(Struct):
    """A folder of the tree that is open: the path of what lies in it begins so, and these names are still to come."""

    prefix: bytes
    fd: int
    names: dict[bytes, int]


def take(root: str, resource: str, snapshot: str, fresh: str, is_held: Callable[[], bool] = lambda: False) -> bool:
    """Turn a snapshot into the unfinished one in the empty folder `fresh`, in one step; whether that could be done.

    It has to be recorded as gone by then. From here on nobody takes it for the snapshot that it was. Not one that
    somebody reads (`is_held`, as in `removal.retire`). Raises OSError.
    """
    if is_held():
        return False
    folder = layout.snapshot_folder(root, resource, snapshot)
    with ExitStack() as stack:
        try:
            old = stack.enter_context(durable.opened_folder(folder, follow=False))
            os.close(os.open(layout.DATA, open_flags.FOLDER, dir_fd=old))
            os.rename(folder, fresh)
        except OSError:  # it went meanwhile, or it is immutable: one more that is pruned in the ordinary way
            return False
        if is_held():
            os.rename(fresh, folder)
            os.mkdir(fresh, 0o700)
            return False
        durable.sync_folder(os.path.dirname(fresh))
        for name in os.listdir(old):  # by its descriptor: on a share something else may have its name by now
            if name != layout.DATA:
                removal.remove_tree(old, os.fsencode(name))
    return True


def give_up(fresh: str) -> None:
    """Let the folder `fresh` be empty again; what was in it is removed as a pruned snapshot is. Raises OSError."""
    above, name = os.path.split(fresh)
    os.rename(fresh, os.path.join(above, layout.REMOVING + name))
    os.mkdir(fresh, 0o700)


class RecycledTree:
    """The tree `data`, which is to become what the walk says. What is linked from the first base lies below `base`."""

    def __init__(self, data: str, base: str) -> None:
        """Raises UnusableTreeError, as all of it does."""
        self._base = os.open(base, os.O_PATH | open_flags.FOLDER)
        self._data = data
        self._mount = mounts.mount_id_of(self._base)
        self._levels: list[_Level] = []
        top = self._opened(None, os.fsencode(data), b"")
        if top is None:
            os.close(self._base)
            raise UnusableTreeError(f"{data}: the folder is not what a copy can begin with")
        self._levels.append(top)

    def has(self, planned: Planned, path: bytes) -> bool:
        """Whether an entry is there already, as it is to be (a folder but for its metadata); else way is made for it.

        Asked in merge order.
        """
        if path == ROOT:
            return False
        level = self._level_of(path)
        name = path[len(level.prefix) :]
        found = level.names.pop(name, None)
        if found == _SAME and planned.base == 0 and (planned.step is Step.LINK or planned.step is Step.LINK_GROUP):
            return True
        if found == _FOLDERS and planned.step is Step.FOLDER:
            return self._enter(level, name, path)
        if found is not None:
            self._remove(level, name)
        return False

    def lacking(self, paths: Sequence[bytes]) -> list[bytes]:
        """Those of files that are to be linked from the first base which are not there as they are to be."""
        lacking = list[bytes]()
        for path in paths:
            level = self._level_of(path)
            found = level.names.pop(path[len(level.prefix) :], None)
            if found != _SAME:
                lacking.append(path)
                if found is not None:
                    self._remove(level, path[len(level.prefix) :])
        return lacking

    def finish(self) -> None:
        """The walk is over: what is left here is gone."""
        while self._levels:
            self._leave()

    def remove(self, path: bytes) -> None:
        """What was kept is to be copied after all."""
        try:
            removal.remove_tree(self._data, path)
        except (OSError, TargetError) as error:
            raise UnusableTreeError(str(error)) from error

    def close(self) -> None:
        """Let go of all folders."""
        for fd in (self._base, *(level.fd for level in self._levels)):
            with suppress(OSError):
                os.close(fd)
        self._levels.clear()

    def _level_of(self, path: bytes) -> _Level:
        """The innermost open folder that it lies in; the others are left."""
        level = self._levels[-1]
        while not path.startswith(level.prefix):
            self._leave()
            level = self._levels[-1]
        return level

    def _enter(self, level: _Level, name: bytes, path: bytes) -> bool:
        """Go down into a folder, or remove one that cannot be dealt with: then it is made anew."""
        inner = self._opened(level.fd, name, path + b"/") if len(self._levels) < _DEEPEST else None
        if inner is None:
            self._remove(level, name)
            return False
        self._levels.append(inner)
        return True

    def _opened(self, above: int | None, name: bytes, prefix: bytes) -> _Level | None:
        """A folder with what is in it; None for one that is too large, cannot be read, or is a mount."""
        with suppress(OSError), ExitStack() as undo:
            fd = os.open(name, open_flags.FOLDER, dir_fd=above)
            undo.callback(os.close, fd)
            names = self._names(fd, prefix)
            if len(names) <= _LARGEST and mounts.mount_id_of(fd) == self._mount:
                undo.pop_all()
                return _Level(prefix, fd, names)
        return None

    def _names(self, fd: int, prefix: bytes) -> dict[bytes, int]:
        """The names in a folder, with what each is; not all, if they are too many. Raises OSError."""
        names: dict[bytes, int] = {}
        with os.scandir(_path_of(fd)) as entries:
            for entry in entries:
                names[entry.name] = _FOLDERS if entry.is_dir(follow_symlinks=False) else entry.inode()
                if len(names) > _LARGEST:
                    return names
        with suppress(OSError):  # the newest copy has no such folder: nothing is the same
            there = os.open(prefix[:-1] or b".", open_flags.FOLDER, dir_fd=self._base)
            try:
                self._compare(names, fd, there)
            finally:
                os.close(there)
        return names

    def _compare(self, names: dict[bytes, int], fd: int, there: int) -> None:
        """Note which names are the same inode in both folders. Raises OSError."""
        is_sure = False
        with os.scandir(_path_of(there)) as entries:
            for entry in entries:
                name, inode = entry.name, entry.inode()
                if names.get(name) == inode:
                    if not is_sure and not _is_same(inode, name, fd, there):
                        return
                    is_sure = True
                    names[name] = _SAME

    def _leave(self) -> None:
        """Nothing more comes from this folder: what is left of its names is gone."""
        level = self._levels[-1]
        for name in level.names:
            self._remove(level, name)
        self._levels.pop()
        os.close(level.fd)

    def _remove(self, level: _Level, name: bytes) -> None:
        try:
            try:
                os.unlink(name, dir_fd=level.fd)
            except IsADirectoryError:
                removal.remove_tree(level.fd, name)
        except (OSError, TargetError) as error:
            raise UnusableTreeError(str(error)) from error


def _is_same(inode: int, name: bytes, fd: int, there: int) -> bool:
    """Whether the lists of two folders say of this name what it is: not every file system puts inodes into them."""
    ours, theirs = (os.stat(name, dir_fd=one, follow_symlinks=False) for one in (fd, there))
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) and ours.st_ino == inode


def _path_of(fd: int) -> bytes:
    """A path of an open folder, in bytes: then the names in it are bytes, too."""
    return b"/proc/self/fd/%d" % fd
