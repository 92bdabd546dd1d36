"""Keeps users of the volume from holding up rsync with leases on their files (fcntl(2), F_SETLEASE).

Whoever opens a file on which there is a lease waits until its holder gives it up, for 45 seconds, and a holder can take
it again for each: rsync would wait at thousands of files. So each is opened here first, which waits for nothing and
asks its holder for it, and it stays open while rsync is at work: of what is open nobody gets a lease that could stop a
reader. What a holder does not give up within a moment is left out, and named.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from drbdbackup import open_flags
from drbdbackup.scan import raise_open_files

WHY = "a process holds a lease on it, and does not give it up"
PATIENCE = 5.0  # seconds that the holders of all files have together
_POLL = 0.05  # seconds
_OTHERS = 256  # descriptors for everything else


@contextmanager
def held_open(root: str, paths: Iterable[bytes], patience: float) -> Iterator[tuple[set[bytes], float]]:
    """Hold these files below `root` open for the block, as many as can be: those with a lease, and what is left of the
    `patience`.

    Nothing is said of files that cannot be opened for another reason: whoever copies them finds out.
    """
    raise_open_files()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - _OTHERS
    files, leased, begun = list[int](), set[bytes](), time.monotonic()
    try:
        for path in paths:
            leased |= {path} if _is_leased(root, path, files, most) else set()
        while leased and time.monotonic() - begun < patience:
            time.sleep(_POLL)
            leased = {path for path in leased if _is_leased(root, path, files, most)}
        yield leased, max(0.0, patience - (time.monotonic() - begun)) if leased else patience
    finally:
        for file in files:
            os.close(file)


def _is_leased(root: str, path: bytes, files: list[int], most: int) -> bool:
    try:
        file = os.open(os.path.join(os.fsencode(root), path), open_flags.READ)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if len(files) < most:
        files.append(file)
    else:
        with suppress(OSError):
            os.close(file)
    return False
