"""Hard-links unchanged entries from older copies into a fresh folder, a folder's names at a time.

It must never follow a symlink and never write into an older copy: it only adds names to its inodes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

from drbdbackup import open_flags

_FOLDER = os.O_PATH | open_flags.FOLDER
BATCH = 1000  # names
AHEAD = 64


class Linker:
    """Collects names by folder and links them; `failed` holds the paths that could not be (EMLINK, damage)."""

    def __init__(self, bases: Sequence[str], fresh: str, workers: int) -> None:
        """`bases` are folders to link from, `fresh` the one to fill (its folders exist already)."""
        self._bases = [os.open(base, _FOLDER) for base in bases]
        self._fresh = os.open(fresh, _FOLDER)
        self._pool = _pool(workers) if workers > 1 else None
        self._pending: list[Future[list[bytes]]] = []
        self._place: tuple[int, bytes] = (-1, b"")
        self._names: list[bytes] = []
        self.failed: set[bytes] = set()

    def add(self, base: int, path: bytes) -> None:
        """Link this path from that base, soon."""
        folder, _, name = path.rpartition(b"/")
        if (base, folder) != self._place or len(self._names) >= BATCH:
            self._flush()
            self._place = (base, folder)
        self._names.append(name)

    def finish(self) -> None:
        """Link what is left and wait for all of it."""
        self._flush()
        for future in self._pending:
            self.failed.update(future.result())
        self._pending.clear()

    def close(self) -> None:
        """Let go of the folders."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        for fd in (*self._bases, self._fresh):
            with suppress(OSError):
                os.close(fd)

    def _flush(self) -> None:
        if not self._names:
            return
        base, folder = self._place
        names, self._names = self._names, []
        if self._pool is None:
            self.failed.update(_link(self._bases[base], self._fresh, folder, names))
            return
        self._pending.append(self._pool.submit(_link, self._bases[base], self._fresh, folder, names))
        if len(self._pending) > AHEAD:
            self.failed.update(self._pending.pop(0).result())


def _pool(workers: int) -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(workers)


def _link(base: int, fresh: int, folder: bytes, names: list[bytes]) -> list[bytes]:
    """Link the names of one folder; the paths that could not be linked."""
    failed: list[bytes] = []
    prefix = folder + b"/" if folder else b""
    with suppress(OSError):
        source = os.open(folder or b".", _FOLDER, dir_fd=base)
        try:
            target = os.open(folder or b".", _FOLDER, dir_fd=fresh)
            try:
                for name in names:
                    try:
                        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                    except OSError:
                        failed.append(prefix + name)
                return failed
            finally:
                os.close(target)
        finally:
            os.close(source)
    return [prefix + name for name in names]
