"""Where words leave the program: answers to stdout, problems to stderr, one document to a script.

The only module that writes to the terminal without rich; nothing here decides what is worth saying.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import IO, Any, TextIO, cast

from drbdbackup.errors import ToolError, UsageError
from drbdbackup.report.text import lines, localised, wrapped

SCHEMA = 1


def say(
    text: Iterable[str], *, alarming: bool = False, paint: Callable[[str], str] = str, wraps: bool = False
) -> None:
    """Lines to stdout. `alarming`: the words in them that need attention have a colour where a person is watching.

    `paint` gives a line its colours wherever this goes; what it gets has no escapes of its own. With `wraps` lines that
    are longer than the terminal are broken between words.
    """
    paint = with_alarms if alarming and has_colours() else paint
    columns = width() if wraps else None
    for line in text:
        for shown in lines(line).split("\n"):
            output = "\n".join(map(paint, wrapped(shown, columns)))
            if _loud:
                _held.append(output)
            else:
                _write(sys.stdout, output)


def has_colours() -> bool:
    """Whether our stdout is a terminal with colours, whose user wants them (https://no-color.org)."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")


@contextmanager
def paged(*, wanted: bool) -> Iterator[bool]:
    """Output meanwhile goes through a pager, if it is `wanted` and a person is there; else where it always goes.

    As git does it: $PAGER, else less if there is one. One that is empty, or `cat`, is none. Whom sudo lets run this has
    less only, which then starts no shell. Yields whether colours are understood there.
    """
    in_colour = has_colours()
    words = _pager() if wanted and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" else []
    with ExitStack() as stack:
        if words:
            from drbdbackup import proc

            flush()
            with suppress(ToolError):
                stack.enter_context(redirect_stdout(stack.enter_context(proc.paging(words))))
                in_colour = in_colour and os.path.basename(words[0]) == "less" and "R" in os.environ.get("LESS", "R")
        yield in_colour


def _pager() -> list[str]:
    import shlex

    pager = os.environ.get("PAGER")
    try:
        words = ["less"] if pager is None else shlex.split(pager)
    except ValueError:
        return []
    if words in ([], ["cat"]):
        return []

    from drbdbackup import proc

    return ["less"] if proc.is_for_another() else words


def with_alarms(line: str) -> str:
    """The line, which has no escapes of its own, with alarms in red and warnings in yellow."""
    red = _ALARMS.sub("\033[31m\\g<0>\033[0m", line)
    return _WARNINGS.sub("\033[33m\\g<0>\033[0m", red)


def complain(message: str, hint: str = "") -> None:
    """A problem to stderr, and below it what to do next. Times in it are those on the wall here, as in answers.

    Only its first line begins at the margin: the others may be of a program, or of another node, which is not believed.
    """
    _complained.append(message)
    message, hint = (localised(lines(words)) for words in (message, hint))
    first, *further = message.split("\n")
    below = (line if line.startswith("  ") else f"  {line}" for line in further)
    output = [f"drbdbackup: {first}", *below, *(f"  {line}" for line in hint.split("\n") if hint)]
    columns = _columns(sys.stderr) if sys.stderr.isatty() else None
    _write(sys.stderr, "\n".join(part for line in output for part in wrapped(line, columns)))


def show(document: Mapping[str, Any]) -> None:
    """One JSON document to stdout, with the version of its shape. ASCII: it holds whatever names there are."""
    _write(sys.stdout, json.dumps({"schema": SCHEMA, **document}, indent=2))


def show_long(document: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """The same for a document with a list `name` that is too long to be held: it is written as it comes."""
    _write(sys.stdout, json.dumps({"schema": SCHEMA, **document})[:-1] + f', "{name}": [')
    separator = ""
    for item in items:
        _write(sys.stdout, separator + json.dumps(item))
        separator = ", "
    _write(sys.stdout, "]}")


def on_terminal() -> bool:
    """Whether a person is watching."""
    return (_loud[0] if _loud else sys.stdout).isatty()


def be_quiet() -> None:
    """From now on nothing is printed but problems, and what a script asked for as JSON."""
    _loud.append(sys.stdout)
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), "w")


def say_what_was_held() -> None:
    """Print the answer of a command that was quiet, went wrong and complained of nothing: the answer is the problem."""
    while _loud:
        sys.stdout = _loud.pop()
    for output in () if _complained else _held:
        _write(sys.stdout, output)


def width() -> int | None:
    """The columns of the terminal that shows our stdout; None for a pipe or a file, where lines have no end."""
    return _columns(sys.stdout) if on_terminal() else None


def _columns(stream: TextIO) -> int | None:
    columns = os.environ.get("COLUMNS", "")  # as rich does
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; without one it is a UsageError, never a guess."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to answer on.", "Add --yes to go ahead without being asked.")
    _ask(lines(f"{question} [y/N] "))
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _ask(words: str) -> None:
    """On the terminal itself, wherever our streams go."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write(words)
    except OSError:
        stream = sys.stdout if sys.stdout.isatty() else sys.stderr
        _to(stream, lambda: stream.write(words))
        flush()


def flush() -> None:
    """Flush what was printed; after this, nothing complains at the end."""
    for stream in (sys.stdout, sys.stderr):
        _to(stream, stream.flush)


def lost() -> str:
    """Why what was printed on stdout did not arrive, "" if it did, or if its reader has gone away."""
    return _lost[0] if _lost else ""


class _Careful:
    """Our stdout, for what draws on it: like ours, its writing never fails."""

    def write(self, text: str) -> int:
        """Write, and say nothing if that fails."""
        _to(sys.stdout, lambda: sys.stdout.write(text))
        return len(text)

    def flush(self) -> None:
        """The same."""
        _to(sys.stdout, sys.stdout.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


_ALARMS = re.compile(
    r"\b(?:DAMAGED|OVERDUE|EVERYTHING|FAILED|PROBLEM|SPLIT BRAIN|SAFETY COPY|critical(?=:))|^  (?:RESTORE|NEWER)\b"
)
_WARNINGS = re.compile(r"\b(?:warning(?=:)|out of reach|unsigned|target not configured)")
CAREFUL: IO[str] = cast("IO[str]", _Careful())
_lost: list[str] = []
_loud: list[TextIO] = []  # our stdout, once nothing is to be printed there
_held: deque[str] = deque(maxlen=10_000)  # what was said since then
_complained: list[str] = []


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    _to(stream, lambda: stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n"))


def _to(stream: TextIO, act: Callable[[], object]) -> None:
    """A reader that goes away is no error, nor is a full disk a reason to leave the work undone: the rest goes nowhere.

    A terminal may be gone, too.
    """
    try:
        act()
    except OSError as error:
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            _lost.append(error.strerror or "unknown")
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
