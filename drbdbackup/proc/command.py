"""A program to run as a frozen value, what it answered, and where programs are found.

Nothing here starts a process, and nothing goes through a shell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from drbdbackup.errors import ToolError, ToolMissing

STDERR_LINES = 25  # in an error
LONGEST_LINE = 1000  # letters of each: a peer may have one of any length said through its program
FOREVER = 7 * 86400.0  # seconds, for what is ended by its watcher


class Command(Struct, frozen=True, kw_only=True):
    """A program to run: `ok` are the exit statuses that mean success, `timeout` is in seconds.

    `secret` arguments are not repeated in errors. `env` is added to ours (always with LC_ALL=C). `most` bytes are heard
    by `run`: a program that says more, because a peer makes it, must not eat up our memory. One that `may_ask` stays on
    our terminal, where a person answers it (a passphrase). `kept` lines of its stderr stay with who started it.

    One that `is_whole` is never killed half-way by `run` (it may have halted a device): who is ended meanwhile waits
    for it; after its time it gets a TERM and is abandoned. `memory` and `largest_file` are the most bytes that one may
    take and write, 0 for no limit: what others feed must not bring the node down.

    One that the admin has written into the configuration begins `at_root`, in the folder /: it may load what lies where
    it is (`python -m`, a relative path), and we may be started in a folder of another user.
    """

    argv: tuple[str, ...]
    ok: frozenset[int] = frozenset({0})
    timeout: float = 30.0
    stdin: bytes = b""
    secret: bool = False
    env: tuple[tuple[str, str], ...] = ()
    most: int = 64 << 20
    may_ask: bool = False
    kept: int = STDERR_LINES
    is_whole: bool = False
    memory: int = 0
    largest_file: int = 0
    at_root: bool = False

    def __repr__(self) -> str:
        """What is run; of one that has secrets the name alone."""
        return f"Command({self.name!r})" if self.secret else f"Command({self.argv!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for tracebacks that show variables."""
        return [("argv", self.name if self.secret else self.argv)]

    @property
    def name(self) -> str:
        """The program's name, for errors."""
        return os.path.basename(self.argv[0])


class Result(Struct, frozen=True):
    """What a program answered; `out` and `err` are undecoded."""

    exit: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """stdout as text; undecodable bytes survive as surrogates."""
        return os.fsdecode(self.out)


def own_python(*words: str) -> tuple[str, ...]:
    """The argv of another Python of ours. What lies in the folder where root happens to be is not loaded there, and of
    who started us with -I, as the package does, no variable of Python's counts there either.
    """
    return (sys.executable, "-I" if sys.flags.isolated else "-P", *words)


def search_path() -> str:
    """PATH with /usr/sbin:/sbin appended (Debian's cron has neither), and without folders that are not absolute.

    What lies in the folder where root happens to be is not run.
    """
    folders = [*os.environ.get("PATH", "/usr/bin:/bin").split(":"), "/usr/sbin", "/sbin"]
    return ":".join(folder for folder in folders if folder.startswith("/"))


def find(program: str) -> str | None:
    """The absolute path of a program, or None."""
    if os.path.dirname(program):
        return program if _is_program(program) else None
    found = (os.path.join(folder, program) for folder in search_path().split(":"))
    return next(filter(_is_program, found), None)


def why_not_found(program: str) -> tuple[str, str]:
    """Why `find` finds nothing, and what to do."""
    if os.path.dirname(program) and os.path.isfile(program):
        return f"{program} cannot be executed", f"chmod +x {program}"
    return f"there is no program {program}", "Install it, or correct the configuration."


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def environment(extra: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Our environment for a child: messages in English, programs found as `find` does."""
    return {**os.environ, "LC_ALL": "C", "PATH": search_path(), **dict(extra)}


def failure(command: Command, exit_status: int, stderr: Sequence[str]) -> ToolError:
    """The error for an exit status that means failure, with the last lines of stderr."""
    shown = command.name if command.secret else " ".join(command.argv)
    last_lines = "\n".join(line.rstrip()[:LONGEST_LINE] for line in list(stderr)[-command.kept:]).strip()
    ended = f"killed by signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
    return ToolError(f"{shown}: {ended}" + (f"\n{last_lines}" if last_lines else ""))


def found(program: str) -> str:
    """The absolute path of a program; ToolMissing if there is none."""
    path = find(program)
    if path is None:
        raise ToolMissing(*why_not_found(program)) if os.path.dirname(program) else ToolMissing.of(program)
    return path
