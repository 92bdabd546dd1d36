"""How a file is opened and read that others could have put there: on a medium, on the volume, or sent by a peer.

Only a plain file counts, of a size that makes sense, in lines that end: a FIFO, a symlink to a device, a file that
seems to be of terabytes or one that is a single line must cost neither the night nor the node's memory. What it says is
for its own format to judge; here everything that is wrong is Damaged, with the file named. Nothing is written here.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

from drbdbackup import open_flags
from drbdbackup.errors import Damaged

_DAMAGED = (
    errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EACCES, errno.EISDIR,
)  # fmt: skip


class Lines(Protocol):
    """An open file that gives lines."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, or so much of it."""


def is_size_limited() -> bool:
    """Whether this process, and what it starts, may write only files of some size: then it is `ulimit -f` that says
    EFBIG, and no file system.
    """
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def opened(path: str, most: int, folder: int | None = None) -> io.FileIO:
    """Open a plain file of at most `most` bytes, which `path` names itself; in an open folder, where one is given.

    Raises FileNotFoundError, other OSErrors of a medium that does not answer, or Damaged.
    """
    try:
        handle = os.open(os.path.basename(path) if folder is not None else path, open_flags.READ, dir_fd=folder)
    except OSError as error:
        raise judged(error, path) from None
    seen = os.fstat(handle)
    if stat.S_ISREG(seen.st_mode) and seen.st_size <= most:
        return io.FileIO(handle, "r")
    os.close(handle)
    raise Damaged(f"{path} is not a plain file of at most {most} bytes")


def content(path: str, most: int, folder: int | None = None) -> bytes:
    """All that such a file holds. Raises as `opened` does."""
    with opened(path, most, folder) as file:
        try:
            return io.BufferedReader(file).read(most)
        except OSError as error:
            raise judged(error, path) from None


def lines(file: Lines, longest: int, path: str) -> Iterator[bytes]:
    """The lines of an open file; Damaged once one is longer than `longest` bytes."""
    for line in iter(partial(file.readline, longest + 1), b""):
        if len(line) > longest:
            raise Damaged(f"{path} has a line of more than {longest} bytes")
        yield line


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in this, None for anything else, however deep or large it is written."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def judged(error: OSError, path: str) -> OSError | Damaged:
    """Damaged for what says that the file is; the error itself for what says nothing of it."""
    if error.errno in _DAMAGED:
        return Damaged(f"{path} cannot be read: {error.strerror}")
    return error
