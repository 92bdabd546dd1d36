"""An rsync at work, followed item by item to its end."""

from __future__ import annotations

from collections.abc import Callable

from drbdbackup import proc
from drbdbackup.errors import Damaged
from drbdbackup.tools import rsync

POLL = 0.2
_MOVES = 8  # times that a byte is read and written, at most: compared on both sides, sent, received, stored
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
    stirred = -1
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
                before, stirred = stirred, running.stirred()
                if stirred != before:
                    on_pause()
                _check(stirred, most)
                if exit_status is not None:
                    running.hear_out()
                    return rsync.answered(exit_status, running.stderr)
    except BaseException:
        running.end()
        raise


def _check(stirred: int, most: int | None) -> None:
    if most is not None and stirred > most * _MOVES + _AROUND:
        raise Damaged("files of the copy grow while they are read", "Find out who can write to its medium.")
