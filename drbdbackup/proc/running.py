"""A program that works for long and writes its stdout to a file, through `sh`.

The only module that imports `sh`. Its output goes to a file and never through our memory.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress

from drbdbackup.proc import stderr_lines
from drbdbackup.proc.child import Child
from drbdbackup.proc.command import Command, environment, found
from drbdbackup.proc.group import Group
from drbdbackup.proc.memory import limited, unbound

_LAST_OUTPUT = 2.0  # seconds
_REAPED = 60.0  # seconds; it has ended, but another thread may be about to take its exit status


class Running(Group):
    """A program that gets no input. `complained`: how many letters it has written to stderr so far."""

    def __init__(self, command: Command, stdout: str, stdin: str) -> None:
        """Start it; its stdout goes to the file `stdout`, `stdin` is a file or "". Raises ToolMissing."""
        import sh

        stderr: deque[str] = deque(maxlen=command.kept)
        self.complained = 0
        path, argv = limited(found(command.argv[0]), command.argv, command)
        program = sh.Command(path)
        err, into = os.pipe()
        hearing = (err, stderr.append, self._complains)
        self._hearing = threading.Thread(target=stderr_lines.read, args=hearing, daemon=True)
        self._hearing.start()
        try:
            with open(stdin or os.devnull, "rb") as given, unbound():
                self._process = program(
                    *argv[1:], _bg=True, _bg_exc=False, _new_session=True, _tty_in=False, _tty_out=False,
                    _in=given, _out=stdout, _err=into, _ok_code=list(range(-64, 256)),
                    _env=environment(command.env), _truncate_exc=False, _no_err=True, _encoding="utf-8",
                    _decode_errors="surrogateescape",
                )  # fmt: skip
        finally:
            os.close(into)
        super().__init__(Child(self._process.pid), stderr)

    def _complains(self, letters: int) -> None:
        self.complained += letters

    def wait(self, timeout: float) -> int | None:
        """Its exit status (negative for a signal), or None if it is still running after `timeout` seconds."""
        import sh

        if not self.has_ended(timeout):  # sh would look ten times a second
            return None
        with suppress(sh.ErrorReturnCode):
            self._process.wait(timeout=_REAPED)
        return int(self._process.exit_code)

    def await_output(self) -> None:
        """After its end: wait for its last output, two seconds at most."""
        self._process.process.wait()
        self._hearing.join(_LAST_OUTPUT)


def start(command: Command, stdout: str, stdin: str = "") -> Running:
    """Start a program that works for long; see `Running`. Raises ToolMissing."""
    return Running(command, stdout, stdin)
