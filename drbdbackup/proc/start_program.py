"""The one way in which a program is started: without our limits, by default in a session of its own, ours to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Sequence

from drbdbackup.errors import ToolError, hint_for
from drbdbackup.proc.command import Command, environment
from drbdbackup.proc.memory import limited, unbound

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
SIGNALS = (*ENDING, signal.SIGPIPE)
_SHELL, _AT_ROOT = "/bin/sh", ("sh", "-c", 'cd / && exec "$@"', "sh")  # posix_spawn(3) knows no folder


def spawn(
    program: str, command: Command, ends: Sequence[int] = (), *, own_session: bool = True,
    signals: Collection[int] = SIGNALS,
) -> int:  # fmt: skip
    """Start `program` (see `found`) with `ends` as its first descriptors, else with ours; its process id.

    It gets the default action for `signals`, which we may ignore. Raises ToolError.
    """
    moves = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends)]
    argv = command.argv
    if command.at_root:
        program, argv = _SHELL, (*_AT_ROOT, program, *argv[1:])
    program, argv = limited(program, argv, command)
    try:
        with unbound():
            return os.posix_spawn(
                program, argv, environment(command.env), file_actions=moves, setsid=own_session,
                setsigdef=signals,
            )  # fmt: skip
    except OSError as error:
        message = f"{command.name} could not be started: {error.strerror}"
        raise ToolError(message, hint_for(error.errno)) from None
