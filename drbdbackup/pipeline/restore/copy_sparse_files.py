"""Copies large files that are mostly holes, from a medium that is mounted here: rsync reads each hole as zeros.

Only content and time of modification are given here, and only to a file of one name. What else it has rsync gives it
afterwards, as to a file that has not changed. It never follows a symlink.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from stat import S_ISREG

from drbdbackup.manifest import Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import largest
from drbdbackup.pipeline.files.content import content_hash, copy_content, drop_cached
from drbdbackup.pipeline.files.rate_limit import Pace
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.scan import HOLED
from drbdbackup.tools import rsync
from drbdbackup.tools.rsync import Item

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FEW = 2  # less than this part of it is content


def is_holed(one: Recorded, opener: ParentOpener) -> bool:
    """Whether the medium has it as a large file that is mostly holes. `opener` is in its tree, in merge order."""
    entry = one.entry
    if entry.kind != b"f" or largest(one) < HOLED or entry.nlink != 1:
        return False
    try:
        above, name = opener.parent(entry.path)
        seen = os.stat(name, dir_fd=above, follow_symlinks=False)
    except OSError:
        return False
    is_large = S_ISREG(seen.st_mode) and seen.st_nlink == 1 and seen.st_size >= HOLED
    return is_large and seen.st_blocks * 512 < seen.st_size // _FEW


def copy_listed(
    listed: str, base: bytes, data: int, folder: int, listing: str, heard: Callable[[Item], None],
    on_piece: Callable[[], None], pace: Pace | None = None,
) -> list[Problem]:  # fmt: skip
    """Copy the content of the files that the file `listed` names, from the folder `base` on; what went wrong.

    The file `listing` is then what rsync has to give what else they have: those, and the folders that they changed.
    """
    problems: list[Problem] = []
    with open(listed, "rb") as file, open(listing, "wb") as to:

        def names() -> Iterator[bytes]:
            for name in rsync.read_listing(file):
                to.write(rsync.listing(filter(None, (name.rpartition(b"/")[0], name))))
                yield base + name

        copy_all(names(), data, folder, heard, lambda path, why: problems.append(Problem.at(path, why)), on_piece, pace)
    return problems


def copy_all(
    paths: Iterator[bytes], data: int, folder: int, heard: Callable[[Item], None],
    on_problem: Callable[[bytes, str], None], on_piece: Callable[[], None], pace: Pace | None = None,
) -> None:  # fmt: skip
    """Copy these files, in merge order, from the open tree of a copy into the open `folder`, at that pace.

    What has the content already is not written. Raises TargetFull.
    """
    def on_bytes(length: int) -> None:
        if pace is not None:
            pace.spend(length)
        on_piece()

    with closing(ParentOpener(data)) as there, closing(ParentOpener(folder)) as here:
        for path in paths:
            try:
                (above, name), (into, _) = there.parent(path), here.parent(path)
                if (item := _copy(above, into, name, path, on_bytes)) is not None:
                    heard(item)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise rsync.full(is_quota=error.errno == errno.EDQUOT) from None
                on_problem(path, error.strerror or "could not be restored")
            on_piece()


def _copy(above: int, into: int, name: bytes, path: bytes, on_bytes: Callable[[int], None]) -> Item | None:
    """Its content is there now: what rsync would say of it, None if it was there before."""
    source = os.open(name, _READ, dir_fd=above)
    try:
        seen, content = os.fstat(source), ""
        is_same = _may_be_the_same(seen, into, name) and (
            content_hash(above, name, lambda _: on_bytes(0)) == content_hash(into, name, lambda _: on_bytes(0))
        )
        if not is_same:
            with _fresh(into, name) as target:
                content = copy_content(source, target, seen, lambda _, read: on_bytes(read))
        drop_cached(source)
    finally:
        os.close(source)
    handle = os.open(name, _READ, dir_fd=into)
    try:
        os.utime(handle, ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    finally:
        os.close(handle)
    return None if is_same else Item(b"", content.encode(), seen.st_size, path)


def _may_be_the_same(seen: os.stat_result, into: int, name: bytes) -> bool:
    try:
        there = os.stat(name, dir_fd=into, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return S_ISREG(there.st_mode) and there.st_size == seen.st_size and there.st_nlink == 1


@contextmanager
def _fresh(into: int, name: bytes) -> Iterator[int]:
    """A new file, open, which takes the place of what is there once it is whole."""
    temporary = b".drbdbackup-" + secrets.token_hex(8).encode()
    handle = os.open(temporary, _MAKE, 0o600, dir_fd=into)
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
