"""Catalogs on a road (a share, the replicated volume, a disk): putting ours there, fetching the others'.

Pure file work for a process that may hang on a dead share and be abandoned: no database is opened here, nothing local
is locked, and whatever lies on the road (a FIFO, a symlink, a device, something huge) is left alone.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO

from drbdbackup import durable, open_flags
from drbdbackup.catalog import kept_configurations
from drbdbackup.catalog.facts import is_node_name
from drbdbackup.catalog.folders import private_folder
from drbdbackup.errors import CatalogError

LARGEST = 64 << 20  # bytes; what a pair has recorded in ten years takes a third
_CHUNK = 1 << 20  # bytes
_STALE = 3600.0  # seconds after which a temporary file is a crash's


def put(published: str, folder: str, node: str) -> list[int]:
    """Copy a published catalog to `<folder>/<node>.db`, whole or not at all; its stamp there. Its configuration goes
    with it.

    The folder is made (0700) if only it is missing, never what is above it: that the medium is mounted there is the
    caller's to know. Raises CatalogError for what the disk says.
    """
    with _guarded(folder):
        with _opened_parent(folder) as above, suppress(FileExistsError):
            os.mkdir(os.path.basename(folder), 0o700, dir_fd=above)
        with _opened(folder) as at:
            _sweep(at, node)
            _copy(published, None, node, at)
            kept_configurations.put(published, at, node)
            durable.sync_opened(at)
            return _stamp(os.stat(f"{node}.db", dir_fd=at, follow_symlinks=False))


def fetch(
    folder: str, into: str, known: Mapping[str, Sequence[int]], nodes: Collection[str], *, only_ours: bool = False
) -> dict[str, list[int]]:
    """Copy the catalogs of `nodes` on a road that are not as `known` says into the folder `into`; their stamps.

    A stamp is [mtime in ns, size, inode]. What is no plain file of at most 64 MiB, or cannot be read now, is passed
    over. A road without catalogs answers {}. What other nodes' catalogs came by this road before is removed from
    `into`. With `only_ours` the folder, the one above it and each file have to be this user's, and nobody else's to
    write. Raises CatalogError if the road cannot be listed, or is somebody else's.
    """
    fetched: dict[str, list[int]] = {}
    with _guarded(into):
        private_folder(into)
    with _guarded(folder), suppress(FileNotFoundError), _opened(folder, only_ours=only_ours) as at, _opened(into) as to:
        wanted = {f"{node}.db" for node in nodes}
        for name in set(filter(_is_catalog, os.listdir(to))) - wanted:
            os.unlink(name, dir_fd=to)
        for name in sorted(wanted.intersection(os.listdir(at))):
            with suppress(OSError):
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and _stamp(status) != list(known.get(name, ())):
                    _sweep(to, name[:-3])
                    fetched[name] = _copy(name, at, name[:-3], to, only_ours=only_ours)
    return fetched


def _is_catalog(name: str) -> bool:
    return name.endswith(".db") and is_node_name(name[:-3])


def _copy(source: str, source_at: int | None, node: str, to: int, *, only_ours: bool = False) -> list[int]:
    """Copy bytes to `<node>.db` in the folder `to`, on the disk before it has that name; the stamp of the source."""
    draft = f".catalog-{node}.tmp-{os.urandom(4).hex()}"  # as `_sweep` knows it
    with open(os.open(source, open_flags.READ, dir_fd=source_at), "rb", buffering=0) as reader:
        status = _plain(reader)
        if only_ours:
            _check_is_ours(reader.fileno(), source)
        with durable.replacing(to, f"{node}.db", draft=draft) as writer:
            _copy_bytes(reader, writer)
    return _stamp(status)


def _plain(reader: FileIO) -> os.stat_result:
    """The status of an open file; OSError if it is anything but a plain one, or larger than a catalog."""
    status = os.fstat(reader.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", reader.name)
    if status.st_size > LARGEST:
        raise OSError(errno.EFBIG, "too large for a catalog", reader.name)
    return status


def _copy_bytes(reader: FileIO, writer: BufferedWriter) -> None:
    """All bytes; OSError for more than a catalog has."""
    left = LARGEST
    while chunk := reader.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise OSError(errno.EFBIG, "too large for a catalog", reader.name)
        writer.write(chunk)


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _check_is_ours(handle: int, name: str) -> None:
    """Raises OSError if somebody else owns what is open, or can write to it."""
    found = os.fstat(handle)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OSError(errno.EPERM, "somebody else owns it or can write to it", name)


@contextmanager
def _opened(folder: str, *, only_ours: bool = False) -> Iterator[int]:
    """The folder as a descriptor. Neither it nor the one above it may be a symlink: both are ours, also on a share."""
    with _opened_parent(folder) as above:
        handle = os.open(os.path.basename(folder), open_flags.FOLDER, dir_fd=above)
        try:
            if only_ours:
                _check_is_ours(above, os.path.dirname(folder))
                _check_is_ours(handle, folder)
        except OSError:
            os.close(handle)
            raise
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened_parent(folder: str) -> Iterator[int]:
    handle = os.open(os.path.dirname(folder), os.O_PATH | open_flags.FOLDER)
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


@contextmanager
def _guarded(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CatalogError(f"{place}: {error.strerror}", "Is it mounted, writable and not full?") from error
