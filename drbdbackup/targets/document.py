"""Small JSON documents on a medium: written whole or not at all, read with distrust.

A medium comes from outside: what is not a plain file of a sensible size with one object in it is Damaged, and no read
may hang on a FIFO or follow a symlink.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from drbdbackup.errors import Damaged

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DAMAGED = (errno.ELOOP, errno.ENXIO, errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EACCES, errno.EISDIR)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def read(path: str, limit: int) -> dict[str, Any]:
    """The object that the file holds; at most `limit` bytes.

    Raises FileNotFoundError, other OSErrors of a medium that does not answer, or Damaged.
    """
    try:
        data = _content(path, limit)
    except OSError as error:
        if error.errno in _DAMAGED:
            raise Damaged(f"{path} cannot be read: {error.strerror}") from None
        raise
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Damaged(f"{path} is torn or foreign: it holds no JSON") from None
    if not isinstance(found, dict):
        raise Damaged(f"{path} is foreign: it holds no JSON object")
    return found


def write(path: str, content: Mapping[str, Any]) -> None:
    """Write the object to a temporary file of mode 0600, fsync, rename, fsync the folder. Raises OSError."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    data = json.dumps(content, indent=1).encode() + b"\n"
    try:
        with open(os.open(temporary, _CREATE, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable, where the file system knows how to. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(fd)


def _content(path: str, limit: int) -> bytes:
    with open(os.open(path, _READ), "rb") as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > limit:
            raise Damaged(f"{path} is not a plain file of at most {limit} bytes")
        return file.read(limit)
