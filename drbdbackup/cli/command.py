"""The options and arguments of each command, declared once: the reader of argv and typer both use them.

A command's options and arguments stand in its function's signature: `to: Annotated[str, Option("--to", "DIR")] = ""`.
Its type says what it takes: `bool` is a flag, `str` one value, `list[str] | None` as many values as are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args, get_type_hints

from msgspec import Struct


class Option(Struct, frozen=True):
    """`--flag`, or `--flag METAVAR` where it takes a value; `short` is `-f`, "" for none."""

    flag: str
    metavar: str = ""
    help: str = ""
    short: str = ""


class Argument(Struct, frozen=True):
    """A value without a flag, by its place."""

    metavar: str
    help: str = ""


class PluginStatuses(Struct, frozen=True):
    """The exit statuses of a command that a monitoring system starts: `statuses` says them in its help.

    `unknown` is that of every error, and `lines` gives what is printed then, of its message and its hint, on stdout,
    where such a system reads.
    """

    statuses: str
    unknown: int
    lines: Callable[[str, str, Sequence[str]], Iterable[str]]


class CliCommand(Struct, frozen=True):
    """`drbdbackup NAME` and the function behind it.

    `statuses` are the exit statuses that not every command has; `example` is a whole command line for its help.
    `is_answer`: what it prints is all that it does. `plugin`: its statuses are not those of the others.
    """

    name: str
    function: Callable[..., int | None]
    statuses: tuple[int, ...] = ()
    example: str = ""
    is_answer: bool = False
    plugin: PluginStatuses | None = None


class CliGroup(Struct, frozen=True):
    """`drbdbackup NAME` with commands of its own below it."""

    name: str
    help: str
    commands: tuple[CliCommand, ...]
    statuses: tuple[int, ...] = ()


class Call(Struct, frozen=True):
    """A function and what argv gives it; the rest has its default there. `config` stood before the command."""

    function: Callable[..., int | None]
    given: dict[str, Any]
    config: str | None = None

    def __call__(self) -> int | None:
        """Call it; the exit status, where it is not 0."""
        return self.function(**self.given)


class Parameter(Struct, frozen=True):
    """One parameter of a command's function: its name there, its type, and how it is given on the command line."""

    name: str
    type: Any
    given_by: Option | Argument
    is_required: bool


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a command's function in their order. `inspect` would take longer than `latest` has."""
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    first_optional = len(hints) - len(function.__defaults__ or ())
    found = []
    for at, (name, hint) in enumerate(hints.items()):
        of, given_by = get_args(hint)
        found.append(Parameter(name, of, given_by, is_required=at < first_optional))
    return found
