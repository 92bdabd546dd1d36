"""Where words leave the program: answers to stdout, problems to stderr, one document to a script.

The only module that writes to the terminal without rich; nothing here decides what is worth saying.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from drbdbackup.errors import UsageError
from drbdbackup.report.text import lines

SCHEMA = 1


def say(text: Iterable[str]) -> None:
    """Lines to stdout."""
    for line in text:
        _write(sys.stdout, lines(line))


def complain(message: str, hint: str = "") -> None:
    """A problem to stderr, and below it what to do next."""
    _write(sys.stderr, lines(f"drbdbackup: {message}"))
    if hint:
        _write(sys.stderr, "\n".join(f"  {line}" for line in lines(hint).split("\n")))


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
    return sys.stdout is not None and sys.stdout.isatty()


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; without one it is a UsageError, never a guess."""
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is there to answer.", "Add --yes to go ahead without being asked.")
    _ask(lines(f"{question} [y/N] "))
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _ask(words: str) -> None:
    """On the terminal itself, wherever our streams go."""
    try:
        with open("/dev/tty", "w") as terminal:
            terminal.write(words)
    except OSError:
        (sys.stdout if sys.stdout.isatty() else sys.stderr).write(words)
        flush()


def flush() -> None:
    """Let out what was said; after this, nothing complains at the end."""
    for stream in (sys.stdout, sys.stderr):
        _to(stream, stream.flush)


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    _to(stream, lambda: stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n"))


def _to(stream: TextIO, act: Callable[[], object]) -> None:
    """A reader that goes away is no error, and no reason to leave the work undone: what follows goes nowhere."""
    try:
        act()
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
