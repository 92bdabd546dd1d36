"""Waits inside a cage for a program that works for long and says nothing: the supervisor hears as long as it moves."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.errors import DatabaseFailed
from drbdbackup.pipeline.cage.protocol import Alive
from drbdbackup.pipeline.cage.worker import Channel

_LOOK = 0.5  # seconds


def work(
    command: proc.Command, channel: Channel, hint: str, *, stdin: str = "", check: Callable[[], None] = lambda: None,
    within: tuple[str, ...] = (),
) -> list[str]:  # fmt: skip
    """Run it to its end and return what it said to stderr, by lines (the last of them: its `kept`).

    `stdin` is a file, `check` is called now and then and may raise, `within` is an argv that runs it. It ends with its
    cage.

    Raises DatabaseFailed, with `hint`, unless it ends well.
    """
    running = proc.start(replace(command, argv=proc.bound((*within, *command.argv))), os.devnull, stdin)
    activity = -1
    try:
        while (status := running.wait(_LOOK)) is None:
            before, activity = activity, running.activity()
            if activity != before:
                channel.send(Alive())
            check()
    finally:
        running.end(0.5)
    running.await_output()
    if status != 0:
        raise DatabaseFailed(proc.failure(command, status, list(running.stderr)).message, hint)
    return list(running.stderr)
