"""An rsync at work, followed item by item to its end.

It starts no rsync without an end: one that moves more than it can need is ended, and so is one whose caller fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drbdbackup import proc
from drbdbackup.errors import Damaged, TargetFull, TargetReadOnly, ToolError
from drbdbackup.tools import rsync

POLL = 0.2  # seconds
_MOVES = 8  # times that a byte is read and written, at most: compared on both sides, sent, received, stored
_AROUND_FILES = 64 << 20  # bytes
_AROUND = 64 << 30  # bytes; what else moves is far less, and it takes a minute to read so many of a hole


def follow(
    command: proc.Command, output: str, on_item: Callable[[rsync.Item], None], on_pause: Callable[[], None],
    most: int | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Run rsync with its stdout in the file `output` and give `on_item` each line; its notes on single entries.

    `on_pause` is called as long as bytes move: a copy that hangs says nothing. For files of `most` bytes in all no more
    may move than that takes: somebody may let them grow for ever. Raises Damaged then.
    """
    running = proc.start(command, stdout=output)
    activity = -1
    try:
        with open(output, "rb") as lines:
            part = b""
            while True:
                exit_status = running.wait(POLL)
                while piece := lines.readline():
                    part += piece
                    if part.endswith(b"\n"):
                        item = rsync.item(part)
                        part = b""
                        if item is not None:
                            on_item(item)
                before, activity = activity, running.activity()
                if activity != before:
                    on_pause()
                _check(activity, most)
                if exit_status is not None:
                    running.await_output()
                    return rsync.answered(exit_status, running.stderr)
    except BaseException:
        running.end()
        raise


@contextmanager
def room_as_it_is(folder: int | str, wanted: int, *, is_peers: bool) -> Iterator[None]:
    """Around an rsync that brings `wanted` bytes to `folder`: what a peer sends it can print what only an rsync here
    should say, and who believes that there is no room removes something. Raises ToolError where there is.
    """
    try:
        yield
    except (TargetFull, TargetReadOnly) as error:
        seen = os.statvfs(folder)
        free = seen.f_bavail * seen.f_frsize
        is_read_only = bool(seen.f_flag & os.ST_RDONLY)
        has_none = free < wanted + _AROUND_FILES or bool(seen.f_files and not seen.f_favail)
        if not is_peers or (has_none if isinstance(error, TargetFull) else is_read_only):
            raise
        message = f"the peer sent a false error: {error.message}. Here {free >> 20:,} MiB are free, and writable"
        raise ToolError(message, "Find out who can change that node, or take another copy with `--from`.") from None


def _check(activity: int, most: int | None) -> None:
    if most is not None and activity > most * _MOVES + _AROUND:
        raise Damaged("files of the copy grow while they are read", "Find out who can write to its medium.")
