"""Files that are there whole or not at all, and still after a power cut: a draft, fsync, rename, fsync of the folder.

A draft lies in the folder that the file is to lie in, is ours alone (0600) until the caller says otherwise, and is
removed if it cannot be finished: only a kill leaves one. No symlink is followed, at the file's name or at the
draft's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter

from drbdbackup import open_flags

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # CIFS and some FUSE


def write(path: str, data: bytes, *, may_replace: bool = True) -> None:
    """Write a file. Without `may_replace` one that is there stays, whoever has made it. Raises OSError."""
    with opened_folder(os.path.dirname(path)) as folder:
        write_in(folder, os.path.basename(path), data, may_replace=may_replace)


def write_in(folder: int, name: str, data: bytes, *, may_replace: bool = True) -> None:
    """The same, in an open folder."""
    with replacing(folder, name, may_replace=may_replace) as file:
        file.write(data)
    sync_opened(folder)


def write_all(handle: int, data: bytes | bytearray) -> None:
    """All of it, to an open file: write(2) alone may stop where there is no more room, and says so only the next time.

    Raises OSError.
    """
    written = os.write(handle, data)
    while written < len(data):
        written += os.write(handle, data[written:])


def exchange(one: str, other: str) -> None:
    """Two files or folders of a file system take each other's name, at once. Raises OSError."""
    import ctypes  # seldom needed, and it costs a start-up something

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


@contextmanager
def replacing(folder: int, name: str, *, draft: str = "", may_replace: bool = True) -> Iterator[BufferedWriter]:
    """An open file that gets its `name` in an open folder at the end of the block. `draft` is its name until then.

    A caller that relies on the name still has to sync the folder (`sync_opened`). Raises OSError.
    """
    draft = draft or f".{name}.{os.urandom(4).hex()}"
    handle = os.open(draft, open_flags.CREATE, 0o600, dir_fd=folder)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if may_replace:
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
            return
        with suppress(FileExistsError):
            os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.unlink(draft, dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise


@contextmanager
def opened_folder(path: str, *, follow: bool = True) -> Iterator[int]:
    """A folder as a descriptor; without `follow` it must not be a symlink itself. Raises OSError."""
    handle = os.open(path, _FOLDER | (0 if follow else os.O_NOFOLLOW))
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(path: str) -> None:
    """Make the names in a folder last, where the file system knows how to. Raises OSError."""
    with opened_folder(path) as folder:
        sync_opened(folder)


def sync_opened(folder: int) -> None:
    """The same, for an open folder."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
