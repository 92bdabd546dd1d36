"""A tree on this node by descriptors: its entries in merge order, and the way to each without following symlinks.

What a snapshot or a live volume holds is somebody else's: no path in it may lead us out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from drbdbackup import open_flags
from drbdbackup.errors import DestinationFull, Failure, UsageError
from drbdbackup.manifest import ROOT, Entry
from drbdbackup.model.problem import Problem
from drbdbackup.scan import Walk, kind_of

Excluded = Callable[[bytes, bool], bool]


def path_of(folder: int, name: bytes = b".") -> bytes:
    """A path by which this process gets at an entry of an open folder, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%s" % (folder, name)


def shown_to_others(folder: int) -> str:
    """The same for a program that we start: whatever bytes the folder's own path has, this one is plain."""
    return f"/proc/{os.getpid()}/fd/{folder}/"


@contextmanager
def open_folder(path: str) -> Iterator[int]:
    """A folder, open; OSError for a symlink to one."""
    folder = os.open(path, open_flags.FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


class ParentOpener:
    """Opens the folders of a tree, each from its parent and never through a symlink; for paths in merge order."""

    def __init__(self, root: int) -> None:
        """`root` stays the caller's to close."""
        self._root = root
        self._open: list[tuple[bytes, int]] = []

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """The open folder of an entry, and its name there. Raises OSError where a folder is none (any more)."""
        folder, _, name = path.rpartition(b"/")
        while self._open and not (folder + b"/").startswith(self._open[-1][0] + b"/"):
            os.close(self._open.pop()[1])
        deepest = self._open[-1][0] if self._open else b""
        for part in folder[len(deepest) :].split(b"/") if folder != deepest else ():
            if part:
                here = self._open[-1][1] if self._open else self._root
                deepest = deepest + b"/" + part if deepest else part
                self._open.append((deepest, os.open(part, open_flags.FOLDER, dir_fd=here)))
        return (self._open[-1][1] if self._open else self._root), name

    def folders(self) -> tuple[tuple[bytes, int], ...]:
        """The paths of the folders that the last entry is in, and these open; not the root."""
        return tuple(self._open)

    def close(self) -> None:
        """Let go of what is open."""
        while self._open:
            os.close(self._open.pop()[1])


def entries(
    folder: int, top: bytes, on_problem: Callable[[Problem], None], excluded: Excluded | None = None,
    mountpoints: frozenset[bytes] = frozenset(),
) -> Iterator[Entry]:  # fmt: skip
    """What lies at and below `top` (b"" for all) in an open folder, with paths from there, in merge order.

    Nothing if there is nothing. Our own folders at the root, what is excluded and other file systems are left out.
    """
    opener = ParentOpener(folder)
    try:
        at = path_of(*opener.parent(top)) if top else path_of(folder)
        seen = os.lstat(at)
        if not stat.S_ISDIR(seen.st_mode):
            yield entry_of(seen, top, os.readlink(at) if stat.S_ISLNK(seen.st_mode) else b"")
            return
        below = top + b"/" if top else b""
        within = frozenset(point[len(below) :] for point in mountpoints if point.startswith(below))
        leaves_out = None if excluded is None else lambda path, is_folder: excluded(below + path, is_folder)
        def on_problem_below(one: Problem) -> None:
            on_problem(Problem.at(below + one.entry_path, one.reason))

        walk = Walk(os.fsdecode(at), leaves_out, within, on_problem_below)
        for _, seen, path, link in walk.looks():
            yield entry_of(seen, path if not top else top if path == ROOT else below + path, link)
    except (FileNotFoundError, NotADirectoryError):
        return
    finally:
        opener.close()


def entry_at(folder: int, name: bytes, path: bytes) -> Entry:
    """One entry of an open folder, as the `path` that it has in the tree. Raises OSError."""
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return entry_of(seen, path, os.readlink(name, dir_fd=folder) if stat.S_ISLNK(seen.st_mode) else b"")


def allocated(folder: int, top: bytes, on_entry: Callable[[], None]) -> int:
    """Bytes that the files at and below `top` take up where they are, a file with several names counted for each."""
    size, opener = 0, ParentOpener(folder)
    try:
        for entry in entries(folder, top, lambda _: None):
            on_entry()
            if entry.kind == b"f":
                above, name = opener.parent(entry.path)
                size += os.stat(name, dir_fd=above, follow_symlinks=False).st_blocks * 512
        return size
    finally:
        opener.close()


def check_way(folder: int, top: bytes) -> None:
    """Raises UsageError where something else than a folder is above `top`: a symlink is not followed."""
    with _on_the_way(folder, top) as opener, suppress(FileNotFoundError):
        opener.parent(top)


def making(folder: int, top: bytes) -> list[bytes]:
    """Make the folders above `top` that are missing (0700); the paths of those made. Raises as `check_way` does."""
    made = []
    with _on_the_way(folder, top) as opener:
        parts = top.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            path = b"/".join(parts[:depth])
            above, name = opener.parent(path)
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above)
                made.append(path)
        opener.parent(top)
    return made


@contextmanager
def _on_the_way(folder: int, top: bytes) -> Iterator[ParentOpener]:
    opener = ParentOpener(folder)
    try:
        yield opener
    except OSError as error:
        message = f"{os.fsdecode(top)!r} cannot be restored there: {error.strerror}"
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            hint = "Every folder above it must be one: remove what is in its place, or restore elsewhere with --to."
            raise UsageError(message, hint) from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DestinationFull(message, "Free some space or inodes there.") from None
        raise Failure(message, "Check the disk: see `dmesg`.") from None
    finally:
        opener.close()


def entry_of(seen: os.stat_result, path: bytes, link: bytes) -> Entry:
    """An entry as lstat(2) says it, by its path in the tree."""
    return Entry(
        kind=kind_of(seen.st_mode), mode=stat.S_IMODE(seen.st_mode), uid=seen.st_uid, gid=seen.st_gid,
        size=seen.st_size, mtime=seen.st_mtime_ns, ctime=seen.st_ctime_ns, inode=seen.st_ino, nlink=seen.st_nlink,
        rdev=seen.st_rdev, path=path, link=link,
    )  # fmt: skip
