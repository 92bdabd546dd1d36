"""Removes trees from a target: pruned snapshots, what crashes left, entries that are gone from a clone.

Works by folder descriptors and never follows a symlink, never enters a mount, never leaves the tree; its memory grows
with the depth of the tree only, and no folder is too deep for it. A snapshot loses its name first (`retire`), so that
a half-removed one never looks like a published one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

from msgspec import Struct, field

from drbdbackup import durable, open_flags
from drbdbackup.errors import TargetError, ToolError
from drbdbackup.targets.layout import LATEST, REMOVING
from drbdbackup.tools import btrfs, mounts

_BATCH = 1000  # names
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_REFUSED = (errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENOTEMPTY, errno.EROFS)


def remove_tree(root: bytes | str | int, path: bytes) -> None:
    """Remove what lies at `path`, relative to the folder `root` (a path or a descriptor); it may be gone already.

    A path that leads through a symlink leads nowhere. Raises TargetError for what cannot be removed (it says why),
    with the rest of the tree still there; OSError if the medium fails.
    """
    *parents, name = _components(path)
    with _opened(root) as top:
        fd = os.dup(top)
        try:
            for parent in parents:
                fd = _swap(fd, os.open(parent, os.O_PATH | open_flags.FOLDER, dir_fd=fd))
            _Removal(fd, path).remove(name)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
        finally:
            os.close(fd)


def retire(folder: str, name: str, is_held: Callable[[], bool] = lambda: False) -> bool:
    """Take the snapshot's name away, then remove its tree; whether it is gone, and not what somebody reads (`is_held`).

    That is asked before and after: a reader first takes its lock, and then looks for the name. So either we see
    that, and the name comes back, or the name is gone for the reader. Raises TargetError, OSError; `sweep` goes on.
    """
    removing = REMOVING + name
    remove_tree(folder, os.fsencode(removing))
    if is_held():
        return False
    try:
        os.rename(os.path.join(folder, name), os.path.join(folder, removing))
    except FileNotFoundError:
        return True
    if is_held():
        os.rename(os.path.join(folder, removing), os.path.join(folder, name))
        return False
    durable.sync_folder(folder)
    remove_tree(folder, os.fsencode(removing))
    return True


def sweep(folder: str) -> tuple[str, ...]:
    """Remove what an interrupted removal (or swap of `latest`) has left in a resource's folder; the names.

    Snapshots under way are not touched: they are linked from first. Raises TargetError, OSError.
    """
    try:
        left = sorted(name for name in os.listdir(folder) if name.startswith((REMOVING, f".{LATEST}.")))
    except FileNotFoundError:
        return ()
    for name in left:
        remove_tree(folder, os.fsencode(name))
    return tuple(left)


class _RemovalLevel(Struct):
    """A folder that the removal is in: its name in its parent, the parent to find again by `..`, and what is left."""

    name: bytes
    parent: tuple[int, int]
    folders: list[bytes] = field(default_factory=list)


class _Removal:
    """One removal, walking down and up with a single descriptor."""

    def __init__(self, parent: int, path: bytes) -> None:
        self._fd = os.open(".", open_flags.FOLDER, dir_fd=parent)
        self._mount = mounts.mount_id_of(self._fd)
        self._path = path
        self._levels: list[_RemovalLevel] = []
        self._stubborn: set[tuple[tuple[int, int], bytes]] = set()

    def remove(self, name: bytes) -> None:
        """Remove an entry of the folder that it began in."""
        try:
            if not self._unlinked(name):
                self._enter(name)
            while self._levels:
                level = self._levels[-1]
                level.folders = level.folders or self._unlink_files()
                if level.folders:
                    self._enter(level.folders.pop())
                else:
                    self._leave()
        finally:
            os.close(self._fd)

    def _unlink_files(self) -> list[bytes]:
        """Unlink until some folders come up, and return those; nothing if the folder is empty."""
        while names := _batch(self._fd):
            if folders := [name for name, is_folder in names if is_folder or not self._unlinked(name)]:
                return folders
        return []

    def _unlinked(self, name: bytes) -> bool:
        """Unlink a name; False if it is a folder."""
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return True
        except IsADirectoryError:
            return False
        except OSError as error:
            raise self._cannot(error, name) from None
        return True

    def _enter(self, name: bytes) -> None:
        """Go down into a folder, if there is still one: not if it vanished, or was a subvolume and is deleted."""
        try:
            fd = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            return
        if mounts.mount_id_of(fd) != self._mount:
            os.close(fd)
            raise TargetError(f"{self._shown(name)} is not removed: something is mounted there", "Unmount it first.")
        here, there = os.fstat(self._fd), os.fstat(fd)
        if there.st_ino == btrfs.ROOT_INODE and there.st_dev != here.st_dev and self._deleted_whole(fd, name):
            os.close(fd)
            return
        self._levels.append(_RemovalLevel(name, (here.st_dev, here.st_ino)))
        self._fd = _swap(self._fd, fd)

    def _open(self, name: bytes) -> int:
        """Open a folder; on a share that squashes root one of mode 0500 has to be made ours to write first."""
        handle = os.open(name, os.O_PATH | open_flags.FOLDER, dir_fd=self._fd)
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & 0o700 != 0o700:
                with suppress(OSError):  # if it matters, the removal says so
                    os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)
        finally:
            os.close(handle)
        try:
            return os.open(name, open_flags.FOLDER, dir_fd=self._fd)
        except PermissionError as error:
            raise self._cannot(error, name) from None

    def _deleted_whole(self, fd: int, name: bytes) -> bool:
        """Delete a btrfs subvolume at once; False if it has to be emptied first (others in it, no permission)."""
        path = f"/proc/{os.getpid()}/fd/{self._fd}/{os.fsdecode(name)}"
        with suppress(ToolError):
            btrfs.delete(path)
            return True
        with suppress(ToolError):
            btrfs.set_read_only(f"/proc/{os.getpid()}/fd/{fd}", read_only=False)
        return False

    def _leave(self) -> None:
        """Go up and remove the folder that was left; the parent must be the one that we came from."""
        level = self._levels.pop()
        self._fd = _swap(self._fd, os.open("..", open_flags.FOLDER, dir_fd=self._fd))
        seen = os.fstat(self._fd)
        if (seen.st_dev, seen.st_ino) != level.parent:
            raise TargetError(f"{self._shown(level.name)} was moved away in mid-removal", "Who else writes there?")
        try:
            os.rmdir(level.name, dir_fd=self._fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or (level.parent, level.name) in self._stubborn:
                raise self._cannot(error, level.name) from None
            self._stubborn.add((level.parent, level.name))  # someone put something in: once more, and that is all
            self._enter(level.name)

    def _cannot(self, error: OSError, name: bytes) -> TargetError | OSError:
        """A refusal in words; an error of the medium as it is."""
        if error.errno not in _REFUSED:
            return error
        hint = "Is it immutable (`lsattr -d`, `chattr -i`), in use, or is root not allowed to write there?"
        return TargetError(f"{self._shown(name)} cannot be removed: {error.strerror}", hint)

    def _shown(self, name: bytes) -> str:
        """The path of an entry where we are, from the root that was given, for people."""
        within = [level.name for level in self._levels[1:]]
        return repr(os.fsdecode(b"/".join([self._path, *within, name]) if self._levels else self._path))


@contextmanager
def _opened(root: bytes | str | int) -> Iterator[int]:
    if isinstance(root, int):
        yield root
        return
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _components(path: bytes) -> list[bytes]:
    """The names in a relative path. Raises ValueError for one that does not go down."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if path.startswith(b"/") or b".." in names or not names:
        raise ValueError(f"{path!r} does not lie below the root")
    return names


def _batch(folder: int) -> list[tuple[bytes, bool]]:
    """Some names in a folder, with whether they are folders: never all, there may be millions."""
    with os.scandir(folder) as entries:
        return [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in islice(entries, _BATCH)]


def _swap(old: int, new: int) -> int:
    os.close(old)
    return new
