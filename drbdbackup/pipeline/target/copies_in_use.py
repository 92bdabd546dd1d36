"""Copies that a restore on this node reads: no run and no prune of this node removes one meanwhile.

A restore into another folder does not hold the node's lock: it may take hours, and the nightly run does not wait for
it. So each holds a lock file of its own, whose name says which copy; a file that nobody holds means nothing. It has
that name only once it is locked, so trying the lock disturbs no restore. It is asked when retention
decides, and again when a tree is about to go and has just lost its name: a restore may begin at any moment.

What another node removes from a share meanwhile is not in sight here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from drbdbackup import lock
from drbdbackup.catalog.folders import held_folder
from drbdbackup.config.values import Config
from drbdbackup.model.backup import Copy

_APART = "@"  # in no medium's and no snapshot's name


@contextmanager
def held(config: Config, copy: Copy) -> Iterator[None]:
    """Keep the copy for the time of the block; look for it within. Raises StateError where nothing can be written."""
    folder, name = held_folder(config.state_dir), _APART.join((str(os.getpid()), copy.medium, copy.snapshot))
    path, begun = os.path.join(folder, name), os.path.join(folder, f".{name}")
    try:
        with lock.held(begun):
            os.rename(begun, path)
            yield
    finally:
        for one in (begun, path):
            with suppress(OSError):
                os.unlink(one)


def held_copies(folder: str) -> frozenset[tuple[str, str]]:
    """The copies that are held now, by (medium, snapshot), from this node's `held_folder`. What a kill left goes."""
    found = set()
    for name in _names(folder):
        _, _, rest = name.partition(_APART)
        medium, _, snapshot = rest.partition(_APART)
        if lock.is_free(path := os.path.join(folder, name)):
            with suppress(OSError):
                os.unlink(path)
        else:
            found.add((medium, snapshot))
    return frozenset(found)


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
