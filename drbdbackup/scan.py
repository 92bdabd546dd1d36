"""One walk over a source as a sorted stream of spool lines, and the spool that carries it to the workers.

The walk goes depth first, names in byte order, by folder file descriptors and never through a symlink, not across
mounts, not into our own folder. It must never stop for what one entry does: what cannot be read is a problem in the
stream. It holds one folder's names a level, never a list of all files.
"""

from __future__ import annotations

import errno
import io
import os
import re
import resource
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from msgspec import Struct

from drbdbackup import open_flags
from drbdbackup.durable import write_all
from drbdbackup.errors import ConfigError, Interrupted, SourceError
from drbdbackup.manifest import DEEPEST_PATH, ROOT, escape, spool_line, unescape
from drbdbackup.model.problem import Problem

DATABASES = b"drbdbackup-databases"  # where databases leave their consistent copies before a walk
NOT_OURS = frozenset({b".drbdbackup", b"lost+found"})
_KINDS = {stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l", stat.S_IFIFO: b"p", stat.S_IFSOCK: b"s",
          stat.S_IFCHR: b"c", stat.S_IFBLK: b"b"}  # fmt: skip
_HEADER = b"#spool 1 %d\n"
_FLUSH = 1 << 16  # bytes
BTRFS_SUBVOLUME_INODE = 256
_Look = tuple[bytes, os.stat_result, bytes, bytes]
HOLED = 1 << 20  # bytes; from here on a file may have holes worth a thought
LARGEST_FILE = 64 << 40  # bytes; holes are hashed at 47 GiB/s, so this takes 23 minutes. ext4 ends at 16 TiB
TOO_LARGE = "its size is "  # how the problem begins of a file that is larger, and not in the walk
NAMES = 2 << 30  # bytes of memory for the names in the folders that the walk is in: half of what a job may have
_A_NAME = 64  # bytes that a name takes, and its own
MOST_BYTES = 1 << 60  # in all; what a catalog can say


class Totals(Struct):
    """What a walk met: `bytes` is the apparent size of regular files, each name counted, `allocated` without holes."""

    entries: int = 0
    files: int = 0
    bytes: int = 0
    allocated: int = 0


class _WalkLevel(Struct):
    """A folder being walked: its descriptor, the names still to come, last first, and the memory that all took."""

    fd: int
    path: bytes
    names: list[bytes]
    memory: int = 0


def _line_of(look: _Look) -> bytes:
    kind, seen, path, link = look
    return spool_line(
        kind, stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns,
        seen.st_ino, seen.st_nlink, seen.st_rdev, path, link,
    )  # fmt: skip


def kind_of(mode: int) -> bytes:
    """The letter of an entry's type, as spool lines have it."""
    return _KINDS[stat.S_IFMT(mode)]


class Walk:
    """One walk; iterate it once. `excluded(path, is_folder)` decides what is left out."""

    def __init__(
        self, root: str, excluded: Callable[[bytes, bool], bool] | None, mountpoints: frozenset[bytes],
        on_problem: Callable[[Problem], None], memory: int = NAMES,
        refused: Callable[[os.stat_result], str] = lambda seen: "",
    ) -> None:  # fmt: skip
        """Walk `root`; `mountpoints` are paths relative to it that belong to other file systems.

        A folder with more names than there is `memory` for is not read, and a problem: the others are. So is a file of
        which `refused` says why it is left out.
        """
        self.totals = Totals()
        self._root = root
        self._device = 0
        self._excluded = excluded
        self._mountpoints = mountpoints
        self._problem = on_problem
        self._memory = memory
        self._refused = refused

    def __iter__(self) -> Iterator[bytes]:
        """Spool lines in merge order, the root itself first."""
        return map(_line_of, self.looks())

    def looks(self) -> Iterator[_Look]:
        """The same as kind, what lstat(2) says, path, and where a symlink leads to. Raises SourceError."""
        try:
            root = os.open(self._root, open_flags.FOLDER)
        except OSError as error:
            raise SourceError(f"{self._root} cannot be read: {error.strerror}") from None
        self._device = os.fstat(root).st_dev
        levels = [self._level(root, b"")]
        try:
            top = self._look(root, ROOT, ROOT)
            if top is not None:
                yield top
            while levels:
                level = levels[-1]
                if not level.names:
                    self._memory += level.memory
                    os.close(levels.pop().fd)
                    continue
                name = level.names.pop()
                path = level.path + name
                seen = self._look(level.fd, name, path)
                if seen is None:
                    continue
                if seen[0] != b"d" or path in self._mountpoints:
                    yield seen
                    continue
                folder = self._opened(levels, name, path)
                if folder >= 0:  # whoever owns `level` can put another folder here after the look at it
                    seen = (seen[0], os.fstat(folder), path, b"")
                yield seen
                if folder >= 0:
                    levels.append(self._level(folder, path + b"/"))
        finally:
            for level in levels:
                os.close(level.fd)

    def _opened(self, levels: list[_WalkLevel], name: bytes, path: bytes) -> int:
        """A folder to be walked; -1 for one that is not, which is a problem."""
        try:
            fd = os.open(name, open_flags.FOLDER, dir_fd=levels[-1].fd)
        except OSError as error:
            if error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO) and not os.path.isdir(self._root):
                raise Interrupted(f"{self._root} went away in mid-walk") from None
            self._problem(Problem.at(path, f"folder not read: {error.strerror}"))
            return -1
        if self._is_foreign(fd):
            os.close(fd)
            self._problem(Problem.at(path, "folder not read: another file system appeared there"))
            return -1
        return fd

    def _is_foreign(self, fd: int) -> bool:
        """A mount that came after the mount table was read; a btrfs subvolume has its own number too, but is ours."""
        seen = os.fstat(fd)
        return seen.st_dev != self._device and seen.st_ino != BTRFS_SUBVOLUME_INODE

    def _level(self, fd: int, path: bytes) -> _WalkLevel:
        names, memory = list[bytes](), 0
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    memory += len(name) + _A_NAME
                    if memory > self._memory:
                        break
                    if path or name not in NOT_OURS:
                        names.append(name)
            why = f"it has more than {len(names)} names" if memory > self._memory else ""
        except OSError as error:
            why = error.strerror or "it cannot be listed"
        if why and not path:
            raise SourceError(f"{self._root} cannot be read: {why}", "See `dmesg`, and what is in it.")
        if why:
            self._problem(Problem.at(path.rstrip(b"/"), f"folder not read: {why}"))
            names, memory = [], 0
        self._memory -= memory
        names.sort(reverse=True)
        return _WalkLevel(fd, path, names, memory)

    def _look(self, fd: int, name: bytes, path: bytes) -> _Look | None:
        """An entry, as `looks` has it; None if it is left out, gone or cannot be read."""
        if len(path) > DEEPEST_PATH:
            self._problem(Problem.at(path, "the path is too long to be copied"))
            return None
        try:
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            kind = kind_of(seen.st_mode)
            if self._excluded is not None and path != ROOT and self._excluded(path, kind == b"d"):
                return None
            link = os.readlink(name, dir_fd=fd) if kind == b"l" else b""
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problem(Problem.at(path, f"not read: {error.strerror}"))
            return None
        if kind == b"f" and seen.st_size > LARGEST_FILE:
            self._problem(Problem.at(path, f"{TOO_LARGE}{seen.st_size} bytes, most of them holes: it is not copied"))
            return None
        if kind == b"f" and seen.st_size >= HOLED and (why := self._refused(seen)):
            self._problem(Problem.at(path, why))
            return None
        self._count(kind, seen)
        return kind, seen, path, link

    def _count(self, kind: bytes, seen: os.stat_result) -> None:
        self.totals.entries += 1
        if kind == b"f":
            self.totals.files += 1
            self.totals.bytes = min(self.totals.bytes + seen.st_size, MOST_BYTES)
            self.totals.allocated += allocated(seen)


def allocated(seen: os.stat_result) -> int:
    """Bytes of a regular file that are not holes. What is small may lie in its inode, and has no blocks."""
    return seen.st_size if seen.st_size < HOLED else min(seen.st_size, seen.st_blocks * 512)


def is_mostly_holes(seen: os.stat_result) -> bool:
    """Whether a regular file is a large one with less content than holes."""
    return seen.st_size >= HOLED and 2 * allocated(seen) < seen.st_size


def exclusion(patterns: tuple[str, ...]) -> Callable[[bytes, bool], bool] | None:
    """A test for gitignore patterns, or None where there are none (a walk without patterns is much faster).

    Raises ConfigError for what is no pattern.
    """
    if not patterns:
        return None
    from drbdbackup.exclusion import compiled

    try:
        is_excluded = compiled(patterns)
    except (ValueError, re.error) as error:
        message = f"exclude = {', '.join(map(repr, patterns))}: invalid pattern ({error})"
        raise ConfigError(message, "Patterns are written as in .gitignore.") from None

    def excluded(path: bytes, is_folder: bool) -> bool:  # noqa: FBT001 as all such tests of a path
        if path.partition(b"/")[0] == DATABASES:  # a pattern that is about something else must not cost a database
            return False
        return is_excluded(os.fsdecode(path) + ("/" if is_folder else ""))

    return excluded


def raise_open_files() -> None:
    """Allow as many open folders as the system lets us: a walk holds one per level."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def write_spool(
    walk: Walk, file: str, started_ns: int, problems: list[Problem], on_progress: Callable[[Totals], None],
    left_out: Sequence[bytes] = (),
) -> Totals:  # fmt: skip
    """Write the whole walk to `file`, so that a reader may follow; problems, what it has `left_out` by then and the
    totals come last.
    """
    handle = os.open(file, open_flags.CREATE, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as spool:
        buffer = bytearray(_HEADER % started_ns)
        for line in walk:
            buffer += line
            if len(buffer) >= _FLUSH:
                write_all(spool.fileno(), buffer)
                buffer.clear()
                on_progress(walk.totals)
        for problem in problems:
            buffer += b"#problem %s\t%s\n" % (escape(problem.entry_path), os.fsencode(problem.reason))
        for path in left_out:
            buffer += b"#left-out %s\n" % escape(path)
        totals = walk.totals
        buffer += b"#end %d %d %d %d\n" % (totals.entries, totals.files, totals.bytes, totals.allocated)
        write_all(spool.fileno(), buffer)
    return totals


def write_spool_of(file: str, lines: Iterable[bytes], totals: Totals) -> None:
    """Write a whole spool from lines that are known already, as from a manifest."""
    with open(file, "wb") as spool:
        spool.write(_HEADER % 0)
        spool.writelines(lines)
        spool.write(b"#end %d %d %d %d\n" % (totals.entries, totals.files, totals.bytes, totals.allocated))


class Spool:
    """A reader that follows a spool while it is being written, at its own pace."""

    def __init__(self, file: str, patience: float, on_wait: Callable[[], None] = lambda: None) -> None:
        """Read `file`; give up after `patience` seconds in which the walk wrote nothing."""
        self._file = file
        self._patience = patience
        self._on_wait = on_wait
        self.started_ns = 0
        self.problems: list[Problem] = []
        self.left_out: list[bytes] = []
        self.totals: Totals | None = None

    def __iter__(self) -> Iterator[bytes]:
        """The spool lines; `started_ns` is set before the first, `totals` and the others after the last."""
        for lines in self.batches():
            yield from lines

    def batches(self) -> Iterator[list[bytes]]:
        """The same, as many at a time as are there."""
        heard, part = time.monotonic(), b""
        with self._opened() as spool:
            is_over = False
            while not is_over:
                piece = spool.read(_FLUSH)
                if not piece:
                    self._wait(heard)
                    continue
                whole, newline, rest = piece.rpartition(b"\n")
                if not newline:
                    part += rest
                    continue
                lines = io.BytesIO(part + whole + newline).readlines()  # splitlines knows other ends, too
                if lines[0][:1] == b"#" or lines[-1][:1] == b"#":  # these stand first and last only
                    is_over = any(self._take(line[:-1]) for line in lines if line[:1] == b"#")
                    lines = [line for line in lines if line[:1] != b"#"]
                if lines:
                    yield lines
                heard, part = time.monotonic(), rest

    def await_end(self, on_read: Callable[[int], None]) -> None:
        """Pass over the spool lines; `on_read` gets the number of those that were passed."""
        heard, passed, part = time.monotonic(), 0, b"\n"
        with self._opened() as spool:
            while True:
                piece = spool.read(_FLUSH)
                if not piece:
                    self._wait(heard)
                    continue
                lines, _, rest = (part + piece).rpartition(b"\n")
                heard, passed, part = time.monotonic(), passed + lines.count(b"\n"), b"\n" + rest
                on_read(passed)
                lines += b"\n"
                place = -1
                while (place := lines.find(b"\n#", place + 1)) >= 0:
                    if self._take(lines[place + 1 : lines.index(b"\n", place + 1)]):
                        return

    def _take(self, line: bytes) -> bool:
        """What a line says that is no entry's; whether it is the last."""
        word, _, rest = line.partition(b" ")
        if word == b"#spool":
            self.started_ns = int(rest.split()[1])
        elif word == b"#problem":
            path, _, why = rest.partition(b"\t")
            self.problems.append(Problem.at(unescape(path), os.fsdecode(why)))
        elif word == b"#left-out":
            self.left_out.append(unescape(rest))
        else:
            self.totals = Totals(*map(int, rest.split()[:4]))
        return word == b"#end"

    def _opened(self) -> BinaryIO:
        """The file, once it is there: the walk syncs its volume before it begins."""
        begun = time.monotonic()
        while True:
            try:
                return open(self._file, "rb", buffering=1 << 18)
            except FileNotFoundError:
                self._wait(begun)

    def _wait(self, since: float) -> None:
        if time.monotonic() - since > self._patience:
            raise SourceError("the walk over the source does not proceed", "Check the volume's disk: see `dmesg`.")
        self._on_wait()
        time.sleep(0.01)
