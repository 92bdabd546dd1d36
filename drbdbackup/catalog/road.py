"""Catalogs on a road (a share, the replicated volume, a disk): putting ours there, fetching the others'.

Pure file work for a process that may hang on a dead share and be abandoned: no database is opened here, nothing local
is locked, and whatever lies on the road (a FIFO, a symlink, a device, something huge) is left alone.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO

from drbdbackup.catalog.facts import is_node_name
from drbdbackup.catalog.folders import private_folder
from drbdbackup.errors import CatalogError

LARGEST = 256 << 20
_MOST_FILES = 64
_CHUNK = 1 << 20
_STALE = 3600.0  # seconds after which a temporary file is a crash's


def put(published: str, folder: str, node: str) -> list[int]:
    """Copy a published catalog to `<folder>/<node>.db`, whole or not at all; its stamp there.

    The folder is made (0700) if only it is missing, never what is above it: that the medium is mounted there is the
    caller's to know. Raises CatalogError for what the disk says.
    """
    with _told(folder):
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        with _opened(folder) as at:
            _sweep(at, node)
            _copy(published, None, node, at)
            _sync_folder(at)
            return _stamp(os.stat(f"{node}.db", dir_fd=at, follow_symlinks=False))


def fetch(folder: str, into: str, known: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Copy the catalogs of a road that are not as `known` says into the folder `into`; the stamps of those copied.

    A stamp is [mtime in ns, size, inode]. What is no plain file of at most 256 MiB with a node's name, or cannot be
    read now, is passed over. A road without catalogs answers {}. Raises CatalogError if the road cannot be listed.
    """
    fetched: dict[str, list[int]] = {}
    with _told(into):
        private_folder(into)
    with _told(folder), suppress(FileNotFoundError), _opened(folder) as at, _opened(into) as to:
        names = sorted(name for name in os.listdir(at) if name.endswith(".db") and is_node_name(name[:-3]))
        for name in names[:_MOST_FILES]:
            with suppress(OSError):
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and _stamp(status) != list(known.get(name, ())):
                    _sweep(to, name[:-3])
                    fetched[name] = _copy(name, at, name[:-3], to)
    return fetched


def _copy(source: str, source_at: int | None, node: str, to: int) -> list[int]:
    """Copy bytes to `<node>.db` in the folder `to`, on the disk before it has that name; the stamp of the source."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    draft = f".catalog-{node}.tmp-{os.urandom(4).hex()}"
    try:
        with open(os.open(source, flags, dir_fd=source_at), "rb", buffering=0) as reader:
            status = _plain(reader)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(draft, flags, 0o600, dir_fd=to), "wb") as writer:
                _pour(reader, writer)
        os.rename(draft, f"{node}.db", src_dir_fd=to, dst_dir_fd=to)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=to)
        raise
    return _stamp(status)


def _plain(reader: FileIO) -> os.stat_result:
    """The status of an open file; OSError if it is anything but a plain one."""
    status = os.fstat(reader.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", reader.name)
    return status


def _pour(reader: FileIO, writer: BufferedWriter) -> None:
    """All bytes, and on the disk; OSError for more than a catalog has."""
    left = LARGEST
    while chunk := reader.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise OSError(errno.EFBIG, "too large for a catalog", reader.name)
        writer.write(chunk)
    writer.flush()
    os.fsync(writer.fileno())


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_mtime_ns, status.st_size, status.st_ino]


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def _sweep(at: int, node: str) -> None:
    """Remove what a crash of ours left; a fresh one may be another process's at work."""
    for name in os.listdir(at):
        if name.startswith(f".catalog-{node}.tmp-"):
            with suppress(OSError):
                if time.time() - os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime > _STALE:
                    os.unlink(name, dir_fd=at)


def _sync_folder(at: int) -> None:
    """Make the rename last, where the file system can (CIFS and some FUSE cannot)."""
    try:
        os.fsync(at)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CatalogError(f"{place}: {error.strerror}", "Is it mounted, writable and not full?") from error
