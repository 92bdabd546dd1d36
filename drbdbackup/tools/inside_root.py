"""Paths of a file system whose root is a folder here: as its own programs would see them, and never out of it.

Symlinks in an image lead from the image's root, as they do once it runs, and `..` ends there. Each step is opened from
the one before it, so nobody who changes the image meanwhile leads a write, or a removal, into this machine's own files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from drbdbackup import open_flags

_MOST_LINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened_folder(root: str, path: str) -> Iterator[int]:
    """The folder that is `path` there. `root` is "" for this machine's own. Raises OSError."""
    with _step(root, path) as at:
        with _called(root, path):
            folder = os.open(".", _FOLDER, dir_fd=at)
        try:
            yield folder
        except OSError as error:
            if isinstance(error.filename, str):  # of what was done in it: absolute names stay as they are
                error.filename = os.path.join(_here(root, path), error.filename)
            raise
        finally:
            os.close(folder)


def is_folder(root: str, path: str) -> bool:
    """Whether there is such a folder. Raises OSError where it cannot be told."""
    try:
        with opened_folder(root, path):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def real_path(root: str, path: str) -> str:
    """The path here of what is `path` there, without symlinks. Raises OSError, where nothing is there, too."""
    with _step(root, path) as at:
        return os.readlink(f"/proc/self/fd/{at}")


@contextmanager
def _step(root: str, path: str) -> Iterator[int]:
    """What `path` leads to, opened to step on it and no more."""
    left, links = path.split("/"), 0
    with ExitStack() as stack:
        with _called(root, path):
            way = [_opened(root or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, None, stack)]
            while left:
                name = left.pop(0)
                if name in ("", "."):
                    continue
                if name == "..":
                    del way[max(1, len(way) - 1):]
                    continue
                here = _opened(name, open_flags.PATH, way[-1], stack)
                if not stat.S_ISLNK(os.fstat(here).st_mode):
                    way.append(here)
                    continue
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink("", dir_fd=here)
                left[:0] = target.split("/")
                if target.startswith("/"):
                    del way[1:]
        yield way[-1]


@contextmanager
def _called(root: str, path: str) -> Iterator[None]:
    """Let an error name the whole path, and not the step on which it happened."""
    try:
        yield
    except OSError as error:
        error.filename = _here(root, path)
        raise


def _here(root: str, path: str) -> str:
    return f"{root.rstrip('/')}{path}"


def _opened(name: str, flags: int, parent: int | None, stack: ExitStack) -> int:
    handle = os.open(name, flags, dir_fd=parent)
    stack.callback(os.close, handle)
    return handle
