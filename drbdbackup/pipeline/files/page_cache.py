"""Keeps the server's page cache as it was: what a backup reads once is dropped, and what was cached before stays.

Several copies read the same files, in the same order, each at its own speed. The first to reach a file notes what of it
is cached, and the last to read it drops the rest: were the first to drop it, the others would read the disk again.
No copy may ever depend on this: what cannot be found out stays in the cache.
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct

from drbdbackup import open_flags
from drbdbackup.pipeline.files.content import contents

WINDOW = 1 << 20  # bytes that are looked at, and dropped, together
_MAPPED = 64 * WINDOW
_NOTES = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
WRITE_BEHIND = 8 * WINDOW
_EVERY = 8 * WINDOW  # how much of a large file is read before it is thought of
_INSIDE = 24  # bits for the windows of a file; the others of a position are its number
_PAST_FILE = (1 << _INSIDE) - 1
_PAST_ALL = (1 << 64) - 1
_POSITION = 8  # bytes
_CACHESTAT = 451  # on all processors
_WAS_ABSENT = b"\1"


class CacheLook(Struct):
    """What of a file, by windows, was not in the cache before it was read: 1 where nothing was. `reached`, `dropped`:
    bytes that have been read, and of these those that were thought of.
    """

    number: int
    absent: bytes
    reached: int = 0
    dropped: int = 0


class ReadOnce:
    """One of several that read the same files, which have numbers in the order in which they are read."""

    def __init__(self, positions: str = "", reader: int = 0) -> None:
        """`positions` is a file that `begin` has made, "" for a reader that is alone."""
        self._reader, self._looks, self._windows, self._places = reader, -1, -1, -1
        self._others: list[int] = []
        self._is_closed = False
        self._positions: Any = {reader: 0}
        with suppress(OSError):
            if positions:
                with open(positions, "r+b") as file:
                    self._positions = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
                self._looks = os.open(f"{positions}.looks", _NOTES, 0o600)
                self._windows = os.open(f"{positions}.windows", _NOTES | os.O_APPEND, 0o600)
                self._places = os.open(f"{positions}.places", _NOTES, 0o600)
                self._others = [one for one in range(len(self._positions)) if one != reader]

    def close(self) -> None:
        """Nobody waits for this one any more, and what it reads from now on stays in the cache."""
        self._is_closed = True
        self._positions[self._reader] = _PAST_ALL
        for file in (self._looks, self._windows, self._places):
            if file >= 0:
                os.close(file)
        self._looks = self._windows = self._places = -1
        self._others = []

    def look(self, number: int, file: int) -> CacheLook:
        """Before an open file is read."""
        absent = b""
        if self._is_closed:
            return CacheLook(number, absent)
        with suppress(OSError):  # the folder of the lists may be full
            size = os.fstat(file).st_size
            if not self._others:
                absent = absent_windows(file, size)
            elif size <= WINDOW:
                absent = self._look_at_small(number, file, size)
            else:
                absent = self._look_at_large(number, file, size)
        return CacheLook(number, absent)

    def _look_at_small(self, number: int, file: int, size: int) -> bytes:
        """What the first one found is noted before it reads: who finds the file in the cache asks again whether it is
        there for that.
        """
        if not self._is_noted(number):
            if 1 in absent_windows(file, size):
                os.pwrite(self._looks, _WAS_ABSENT, number)
            elif not self._is_noted(number):
                return b""
        return _WAS_ABSENT

    def _is_noted(self, number: int) -> bool:
        return os.pread(self._looks, 1, number) == _WAS_ABSENT

    def _look_at_large(self, number: int, file: int, size: int) -> bytes:
        """All large files are noted in one file, and by their numbers in another where: a million make no more inodes.

        If two look at the same moment either note will do: no window is in it that was there before.
        """
        place = os.pread(self._places, 2 * _POSITION, 2 * _POSITION * number)
        length = int.from_bytes(place[_POSITION:], "little")
        if length:
            return os.pread(self._windows, length, int.from_bytes(place[:_POSITION], "little"))
        absent = absent_windows(file, size)
        if os.write(self._windows, absent) == len(absent):  # in whole, or it is not noted
            at = os.lseek(self._windows, 0, os.SEEK_CUR) - len(absent)
            place = at.to_bytes(_POSITION, "little") + len(absent).to_bytes(_POSITION, "little")
            os.pwrite(self._places, place, 2 * _POSITION * number)
        return absent

    def came(self, look: CacheLook, file: int, length: int) -> None:
        """So many bytes more of it have been read."""
        look.reached += length
        if look.reached - look.dropped >= _EVERY:
            self._drop(look, file, look.reached // WINDOW)

    def finished(self, look: CacheLook, file: int) -> None:
        """All of it has been read, or it never will be."""
        self._drop(look, file, _PAST_FILE)

    def passed(self, number: int) -> None:
        """Whatever there is to be read up to this number has been."""
        if not self._is_closed:
            self._positions[self._reader] = number << _INSIDE | _PAST_FILE

    @contextmanager
    def reading(self, path: bytes, number: int = 0) -> Iterator[None]:
        """Around whatever reads this file."""
        file, look = -1, None
        with suppress(OSError):
            file = os.open(path, open_flags.READ)
            look = self.look(number, file)
        try:
            yield
        finally:
            if look is not None:
                self.finished(look, file)
            if file >= 0:
                os.close(file)

    def _drop(self, look: CacheLook, file: int, windows: int) -> None:
        if self._is_closed:
            return
        position = look.number << _INSIDE | min(windows, _PAST_FILE)
        self._positions[self._reader] = position
        if any(self._positions[other] < position for other in self._others):
            return
        for begins, ends in _runs(look.absent, look.dropped // WINDOW, windows):
            length = 0 if ends == len(look.absent) else (ends - begins) * WINDOW
            with suppress(OSError):
                os.posix_fadvise(file, begins * WINDOW, length, os.POSIX_FADV_DONTNEED)
        look.dropped = windows * WINDOW


def _runs(absent: bytes, begins: int, ends: int) -> Iterator[tuple[int, int]]:
    """Where windows of which nothing was there begin and end."""
    ends = min(ends, len(absent))
    while (begins := absent.find(1, begins, ends)) >= 0:
        over = absent.find(0, begins, ends)
        over = ends if over < 0 else over
        yield begins, over
        begins = over


def begin(positions: str, readers: int) -> None:
    """Make the file by which so many that are to read know of each other.

    One that never says how far it is (an engine) is waited for until it has `ended`: nothing is dropped before it.
    """
    with open(positions, "xb") as file:
        file.write(bytes(_POSITION * readers))


def ended(positions: str, reader: int) -> None:
    """This one reads no more, whatever it was at: the others need not think of it."""
    with suppress(OSError), open(positions, "r+b") as file:
        file.seek(_POSITION * reader)
        file.write(_PAST_ALL.to_bytes(_POSITION, "little"))


def write_behind(file: int, begun: int, written: int) -> int:
    """Let the kernel begin to write what is new of a file that is being written, and forget what was begun before.

    So neither the cache nor the next sync gets all of a large file at once. Where it has been begun now, in bytes.
    """
    before = max(0, begun - WRITE_BEHIND)
    with suppress(OSError):
        os.posix_fadvise(file, before, written - before, os.POSIX_FADV_DONTNEED)  # writes what is dirty, drops the rest
    return written


def absent_windows(file: int, size: int) -> bytes:
    """For each window of an open file 1 if no page of it is in the cache, else 0; nothing if that cannot be told.

    Where it has no content nobody looks: for a terabyte of holes that takes eleven seconds.
    """
    if 0 < size <= WINDOW and (there := _count(file)) is not None:
        return b"\0" if there else b"\1"
    found = bytearray(b"\1") * -(-size // WINDOW)
    each = WINDOW // mmap.PAGESIZE
    for begins, ends in contents(file, os.fstat(file), size, WINDOW):
        for at in range(begins, ends, _MAPPED):
            pages = _resident(file, at, min(_MAPPED, ends - at))
            if pages is None:
                return b""
            windows = bytes(1 not in pages[first : first + each] for first in range(0, len(pages), each))
            found[at // WINDOW : at // WINDOW + len(windows)] = windows
    return bytes(found)


def _count(file: int) -> int | None:
    """How many pages of a file are in the cache: cachestat(2), of Linux 6.5, in a sixth of the time of mincore(2)."""
    libc, all_of_it, counts = _libc(), bytes(16), _counts()
    return counts[0] if libc.syscall(_CACHESTAT, file, all_of_it, counts, 0) == 0 else None


def _resident(file: int, at: int, length: int) -> bytes | None:
    """A byte for each page, 1 if it is in the cache: mincore(2), which tells that to who may write the file."""
    import ctypes

    libc = _libc()
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    address = libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, at)
    if address == ctypes.c_void_p(-1).value:
        return None
    try:
        return pages.raw if libc.mincore(address, length, pages) == 0 else None
    finally:
        libc.munmap(address, length)


@functools.cache
def _libc() -> Any:
    import ctypes

    libc, size = ctypes.CDLL(None, use_errno=True), ctypes.c_size_t
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong]
    libc.munmap.argtypes = [ctypes.c_void_p, size]
    libc.mincore.argtypes = [ctypes.c_void_p, size, ctypes.c_char_p]
    libc.syscall.argtypes = [ctypes.c_long, ctypes.c_uint, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint]
    return libc


@functools.cache
def _counts() -> Any:
    """Where cachestat(2) writes what it counts."""
    import ctypes

    return (ctypes.c_uint64 * 5)()
