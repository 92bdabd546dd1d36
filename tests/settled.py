"""Waiting until what was just written is old enough to be trusted by the next walk."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from drbdbackup.manifest import SETTLE_NS


def wait_until_settled(root: Path, deadline: float = 30.0) -> None:
    """Return when every entry below `root` has a ctime older than the walk's settling time."""
    newest = max(
        (os.lstat(os.path.join(folder, name)).st_ctime_ns for folder, folders, files in os.walk(root)
         for name in (*folders, *files)), default=0,
    )  # fmt: skip
    end = time.monotonic() + deadline
    while time.time_ns() - newest <= SETTLE_NS:
        assert time.monotonic() < end, "the clock does not go on"
        select.select([], [], [], max(0.0, (newest + SETTLE_NS - time.time_ns()) / 1e9))


def settled_volume(volume: Path, fill: Callable[[Path], object]) -> None:
    """Have an empty folder filled with what is old enough to be trusted: what `fill` writes into the folder it gets.

    The folder's parent is a test's own. What grew old while the tests before ran is moved there (that gives a new ctime
    to the folder, and to nothing in it), and the same is made for the next test.
    """
    kept = volume.parent.parent / f"settled-{fill.__module__}.{fill.__qualname__}"
    if not kept.exists():
        _filled(kept, fill)
    wait_until_settled(kept)
    kept.rename(volume)
    _filled(kept, fill)


def _filled(folder: Path, fill: Callable[[Path], object]) -> None:
    folder.mkdir(mode=0o700)
    fill(folder)


def wait_for_the_next_second() -> None:
    """Runs and copies tell when they began in whole seconds, and of two within one nobody can tell which came later."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.01)
