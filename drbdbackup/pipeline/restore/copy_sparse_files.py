"""Copies large files that are mostly holes, from a medium that is mounted here: rsync reads each hole as zeros.

Only content and time of modification are given here, and further names. What else a file has it is given afterwards, as
one that has not changed. It never follows a symlink.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from stat import S_ISREG
from typing import BinaryIO

from msgspec.structs import replace

from drbdbackup import open_flags
from drbdbackup.manifest import Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import inode_and_hash, largest
from drbdbackup.pipeline.files.content import content_hash, copy_content, drop_cached
from drbdbackup.pipeline.files.rate_limit import Pace
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.scan import HOLED, is_mostly_holes
from drbdbackup.tools import rsync
from drbdbackup.tools.rsync import Item


def is_holed(one: Recorded, opener: ParentOpener) -> bool:
    """Whether the medium has it as a large file that is mostly holes. `opener` is in its tree, in merge order."""
    entry = one.entry
    if entry.kind != b"f" or largest(one) < HOLED:
        return False
    try:
        above, name = opener.parent(entry.path)
        seen = os.stat(name, dir_fd=above, follow_symlinks=False)
    except OSError:
        return False
    return S_ISREG(seen.st_mode) and is_mostly_holes(seen)


def listed(one: Recorded) -> bytes:
    """An entry of the list of `copy_listed`: the path and, before it, inode and hash if it is not the only name."""
    inode, content = inode_and_hash(one)
    same = b"%d-%b" % (inode, content.encode()) if one.entry.nlink > 1 else b""
    return b"%b/%b\0" % (same, one.entry.path)


def listed_paths(file: BinaryIO) -> Iterator[bytes]:
    """The paths in such a list."""
    return (line.partition(b"/")[2] for line in rsync.read_listing(file))


def copy_listed(
    listing: str, data: int, folder: int, heard: Callable[[Item], None], on_piece: Callable[[], None],
    pace: Pace | None = None, *, has_links: bool,
) -> list[Problem]:  # fmt: skip
    """Copy the files that the file `listing` names, in merge order, from the open tree of a copy into the open
    `folder`, at that pace; what went wrong.

    What has the content already is not written, and of several names one is read: if the medium `has_links`, `heard`
    gets that one only, as from rsync. Raises TargetFull.
    """
    problems: list[Problem] = []
    first: dict[bytes, tuple[bytes, int, Item | None]] = {}

    def on_bytes(length: int) -> None:
        if pace is not None:
            pace.spend(length)
        on_piece()

    with (
        open(listing, "rb") as file, closing(ParentOpener(data)) as there, closing(ParentOpener(folder)) as here,
        closing(ParentOpener(folder)) as leaders,
    ):  # fmt: skip
        for line in rsync.read_listing(file):
            same, _, path = line.partition(b"/")
            try:
                into, name = here.parent(path)
                leader, made, item = first.get(same, (b"", 0, None))
                if leader and _is_joined(*leaders.parent(leader), made, into, name):
                    item = None if has_links or item is None else replace(item, path=path)
                else:
                    above, _ = there.parent(path)
                    item = _copy(above, into, name, path, on_bytes, is_alone=not same)
                    made = os.stat(name, dir_fd=into, follow_symlinks=False).st_ino
                    first |= {same: (path, made, item)} if same else {}
                if item is not None:
                    heard(item)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise rsync.full(is_quota=error.errno == errno.EDQUOT) from None
                problems.append(Problem.at(path, error.strerror or "could not be restored"))
            on_piece()
    return problems


def _is_joined(above: int, leader: bytes, made: int, into: int, name: bytes) -> bool:
    """Whether it is one more name of the inode that was `made` before, or has become one; where that cannot be, it is
    not.
    """
    temporary = b".drbdbackup-" + secrets.token_hex(8).encode()
    with suppress(FileNotFoundError):
        if os.stat(name, dir_fd=into, follow_symlinks=False).st_ino == made:
            return True
    with suppress(OSError):
        os.link(leader, temporary, src_dir_fd=above, dst_dir_fd=into, follow_symlinks=False)
        try:  # somebody may have put another file in its place meanwhile
            if os.stat(temporary, dir_fd=into, follow_symlinks=False).st_ino == made:
                os.rename(temporary, name, src_dir_fd=into, dst_dir_fd=into)
                return True
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=into)
    return False


def _copy(
    above: int, into: int, name: bytes, path: bytes, on_bytes: Callable[[int], None], *, is_alone: bool
) -> Item | None:
    """Its content is there now: what rsync would say of it, None if it was there before. `is_alone`: of one name."""
    source = os.open(name, open_flags.READ, dir_fd=above)
    try:
        seen, content = os.fstat(source), ""
        is_same = _may_be_the_same(seen, into, name, is_alone=is_alone) and (
            content_hash(above, name, lambda _: on_bytes(0)) == content_hash(into, name, lambda _: on_bytes(0))
        )
        if not is_same:
            with _fresh(into, name) as target:
                content = copy_content(source, target, seen, lambda _, read: on_bytes(read))
        drop_cached(source)
    finally:
        os.close(source)
    handle = os.open(name, open_flags.READ, dir_fd=into)
    try:
        os.utime(handle, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    finally:
        os.close(handle)
    return None if is_same else Item(b"", content.encode(), seen.st_size, path)


def _may_be_the_same(seen: os.stat_result, into: int, name: bytes, *, is_alone: bool) -> bool:
    try:
        there = os.stat(name, dir_fd=into, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return S_ISREG(there.st_mode) and there.st_size == seen.st_size and (there.st_nlink == 1 or not is_alone)


@contextmanager
def _fresh(into: int, name: bytes) -> Iterator[int]:
    """A new file, open, which takes the place of what is there once it is whole."""
    temporary = b".drbdbackup-" + secrets.token_hex(8).encode()
    handle = os.open(temporary, open_flags.CREATE, 0o600, dir_fd=into)
    try:
        try:
            yield handle
        finally:
            os.close(handle)
        os.rename(temporary, name, src_dir_fd=into, dst_dir_fd=into)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=into)
        raise
