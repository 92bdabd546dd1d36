"""Mounts for the time of a block: undo is the reverse of do, and the first error is the one that is raised.

Whoever uses them has to see to it that SIGTERM and SIGHUP end the block: Python without a handler dies without
`finally`. What is mounted in a cage goes with the cage in any case.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from drbdbackup.errors import Failure, TargetError, ToolError
from drbdbackup.tools import mount, mounts

BUSY_PATIENCE = 5.0  # seconds that a killed program may take to let go of its files
_POLL = 0.05  # seconds


@contextmanager
def undone(undo: Callable[[], None], what: str) -> Iterator[None]:
    """Call `undo` at the end, whatever happens. If the body has failed, its error is raised, with undo's as a note."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (Failure, OSError) as later:
            error.add_note(f"{what} failed too: {later}")
        raise
    undo()


@contextmanager
def mounted(device: str, at: str, options: Sequence[str] = ()) -> Iterator[str]:
    """Mount `device` (or an image file) at the folder `at` for the time of the block; yields `at`.

    Undone by what the mount table says, not by whether mount(8) came to an end: it may have been killed in between.
    Raises ToolError if it cannot be mounted, TargetError if it cannot be unmounted.
    """
    with _covered(at):
        mount.attach(device, at, options)
        yield at


@contextmanager
def covered(at: str, options: Sequence[str]) -> Iterator[str]:
    """Like `mounted`, for what is mounted at `at` already: a second mount of the same over it, with its own options.

    The kernel refuses to mount a device twice at one point. Raises ToolError, TargetError.
    """
    with _covered(at):
        mount.bind(at, at, options)
        yield at


@contextmanager
def _covered(at: str) -> Iterator[None]:
    """Unmount at the end what has come at `at` since, and nothing that was there before."""
    before = _at(at)
    with undone(lambda: _detach_above(at, before), f"unmounting {at}"):
        yield


def detach(point: str) -> None:
    """Unmount what is topmost at `point`, giving its last users a moment to let go.

    What stays busy is taken out of sight lazily, and that is a TargetError, as is a write that failed.
    """
    until = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            return mount.detach(point)
        except ToolError as error:
            if "busy" not in error.message:
                raise TargetError(f"{point} could not be unmounted: {error.message}", "See `dmesg`.") from None
        if time.monotonic() > until:
            break
        time.sleep(_POLL)
    mount.detach_lazily(point)
    raise TargetError(
        f"{point} was still in use and was unmounted lazily",
        f"Do not pull the medium out yet: `fuser -vm {point}` shows what uses it.",
    )


def _at(point: str) -> frozenset[int]:
    """The mounts at `point`, topmost and hidden."""
    real = os.path.realpath(point)
    return frozenset(mount.mount_id for mount in mounts.table() if mount.point == real)


def _detach_above(point: str, before: frozenset[int]) -> None:
    """Unmount what has come at `point` since; nothing that was there before."""
    if _at(point) - before:
        detach(point)
