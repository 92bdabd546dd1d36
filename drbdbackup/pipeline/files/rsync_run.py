"""An rsync at work, followed item by item to its end.

It starts no rsync without an end: one that moves more than it can need is ended, and so is one whose caller fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drbdbackup import proc
from drbdbackup.errors import Damaged, TargetFull, TargetReadOnly, ToolError
from drbdbackup.tools import rsync, ssh

POLL = 0.2  # seconds
_FALSE = "Find out who can change that node, or take another copy with `--from`."
_MOVES = 8  # times that a byte is read and written, at most: compared on both sides, sent, received, stored
_AROUND_FILES = 64 << 20  # bytes
_AROUND = 64 << 30  # bytes; what else moves is far less, and it takes a minute to read so many of a hole
_SILENT = 6 * 3600.0  # seconds: with --checksum nothing comes until 2 TB of a folder were read
_AROUND_PEERS = 1 << 30  # bytes; holes are read at the peer
AROUND_ENTRY = 1 << 10  # bytes of what is said of an entry of a peer's, in both directions
_MOST_SAID = 64 << 20  # bytes; of a peer's disk that fails these are some 400,000 lines


def follow(
    command: proc.Command, output: str, on_item: Callable[[rsync.Item], None], on_pause: Callable[[], None],
    most: int | None = None, *, is_peers: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """Run rsync with its stdout in the file `output` and give `on_item` each line; its notes on single entries.

    `on_pause` is called as long as bytes move: a copy that hangs says nothing. What ssh moves does not count: its signs
    of life, and what a peer complains of, go on for ever. A peer (`is_peers`) that is only silent may be reading for
    hours to compare; it gives up what hangs there. For files of `most` bytes in all no more may move than that takes:
    somebody may let them grow for ever. Raises Damaged then; ToolError if a peer says without end what is no item.
    """
    running = proc.start(command, stdout=output)
    activity, said, complained, moved_at = -1, 0, 0, time.monotonic()
    around = _AROUND_PEERS if is_peers else _AROUND
    try:
        with open(output, "rb") as lines:
            part = b""
            while True:
                exit_status = running.wait(POLL)
                while piece := lines.readline(rsync.LONGEST_ITEM):
                    part, said = (part + piece)[-rsync.LONGEST_ITEM :], said + len(piece)
                    if part.endswith(b"\n"):
                        item = rsync.item(part)
                        if item is not None:
                            said -= len(part)
                            on_item(item)
                        part = b""
                    if is_peers and said > _MOST_SAID:
                        break
                before, activity = activity, running.activity(without=ssh.PROGRAM)
                if activity != before:
                    complained, moved_at = running.complained, time.monotonic()
                    on_pause()
                elif is_peers and running.complained == complained and time.monotonic() - moved_at < _SILENT:
                    on_pause()
                _check(activity, most, around)
                if is_peers:
                    _check_said(max(0, said) + running.complained)
                if exit_status is not None:
                    running.await_output()
                    return rsync.answered(exit_status, running.stderr)
    except BaseException:
        running.end()
        raise


@contextmanager
def peer_errors_checked(folder: int | str, largest: int, *, is_peers: bool) -> Iterator[None]:
    """Around an rsync that writes to `folder`: raises ToolError in place of an error that a peer has made up.

    A peer can have our rsync print that there is no room here, and whoever believes that removes something. A file that
    had no room is gone again, so as much may be free then as the `largest` of them has.
    """
    try:
        yield
    except (TargetFull, TargetReadOnly) as error:
        seen = os.statvfs(folder)
        free = seen.f_bavail * seen.f_frsize
        is_read_only = bool(seen.f_flag & os.ST_RDONLY)
        has_none = free < largest + _AROUND_FILES or bool(seen.f_files and not seen.f_favail)
        if not is_peers or (has_none if isinstance(error, TargetFull) else is_read_only):
            raise
        message = f"the peer sent a false error: {error.message}. Here {free >> 20:,} MiB are free, and writable"
        raise ToolError(message, _FALSE) from None


def _check(activity: int, most: int | None, around: int) -> None:
    if most is not None and activity > most * _MOVES + around:
        raise Damaged("files of the copy grow while they are read", "Find out who can write to its medium.")


def _check_said(letters: int) -> None:
    if letters > _MOST_SAID:
        raise ToolError("the peer complains without end", _FALSE)
