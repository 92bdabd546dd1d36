"""Copies that a restore on this node reads: no run and no prune of this node removes one meanwhile.

A restore into another folder does not hold the node's lock: it may take hours, and the nightly run does not wait for
it. So each holds a lock file of its own, whose name says which copy; a file that nobody holds means nothing. What
another node removes from a share meanwhile is not in sight here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from drbdbackup import lock
from drbdbackup.config.values import Config
from drbdbackup.model.backup import Copy

_APART = "@"  # in no medium's and no snapshot's name


@contextmanager
def held(config: Config, copy: Copy) -> Iterator[None]:
    """Keep the copy for the time of the block. Raises StateError where the state folder cannot be written to."""
    path = os.path.join(_folder(config), _APART.join((str(os.getpid()), copy.medium, copy.snapshot)))
    try:
        with lock.held(path):
            yield
    finally:
        with suppress(OSError):
            os.unlink(path)


def held_copies(config: Config) -> frozenset[tuple[str, str]]:
    """The copies that are held now, by (medium, snapshot). What a killed restore left behind goes."""
    found = set()
    for name in _names(config):
        path = os.path.join(_folder(config), name)
        pid, _, told = name.partition(_APART)
        medium, _, snapshot = told.partition(_APART)
        if lock.is_held(path):
            found.add((medium, snapshot))
        elif not os.path.exists(f"/proc/{pid}"):
            with suppress(OSError):
                os.unlink(path)
    return frozenset(found)


def _folder(config: Config) -> str:
    return os.path.join(config.state_dir, "held")


def _names(config: Config) -> list[str]:
    try:
        return os.listdir(_folder(config))
    except OSError:
        return []
