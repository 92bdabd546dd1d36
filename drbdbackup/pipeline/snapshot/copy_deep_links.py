"""Copies symlinks that lie deeper than rsync can walk (some 1,000 folders), each from its open folder into another.

Plain files come so at any depth, and folders are made without rsync. What is odd is left out: then it is a problem.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from drbdbackup.pipeline.files.metadata import attributes
from drbdbackup.pipeline.files.tree import path_of
from drbdbackup.pipeline.snapshot.copy_plain_files import opened_below

DEEP = 500  # folders


def is_deep_link(path: bytes, line: bytes) -> bool:
    """Whether an entry of the walk is such a symlink."""
    return line[:1] == b"l" and path.count(b"/") >= DEEP


def copy(source: str, data: str, path: bytes) -> None:
    """Make the symlink at `path` below `data` what it is below `source`. Raises OSError."""
    folder, _, name = path.rpartition(b"/")
    with ExitStack() as stack:
        there = opened_below(source, folder)
        stack.callback(os.close, there)
        here = opened_below(data, folder)
        stack.callback(os.close, here)
        seen = os.stat(name, dir_fd=there, follow_symlinks=False)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=here)
        os.symlink(os.readlink(name, dir_fd=there), name, dir_fd=here)
        os.chown(name, seen.st_uid, seen.st_gid, dir_fd=here, follow_symlinks=False)
        for attribute, value in attributes(path_of(there, name)).items():
            os.setxattr(path_of(here, name), attribute, value, follow_symlinks=False)
        os.utime(name, ns=(seen.st_mtime_ns, seen.st_mtime_ns), dir_fd=here, follow_symlinks=False)
