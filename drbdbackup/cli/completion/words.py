"""What each shell's script says of the declared commands: their names, options and files.

Each shell asks here, so that none of them can know another command than the others. It never writes shell code.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from drbdbackup.cli.command import Argument, CliCommand, CliGroup, Option, parameters

HIDDEN = "serve"  # sshd starts that one
PATHS = ("FILE", "DIR", "PAIR.TOML", "DEVICE")
HELP = "Show what it does and how it is used"


def flat(commands: Sequence[CliCommand | CliGroup]) -> Iterator[tuple[str, CliCommand]]:
    """Every command with its whole name."""
    for one in commands:
        if isinstance(one, CliCommand):
            yield one.name, one
        else:
            yield from ((f"{one.name} {each.name}", each) for each in one.commands)


def groups(commands: Sequence[CliCommand | CliGroup]) -> list[CliGroup]:
    """Those that have commands below them."""
    return [one for one in commands if isinstance(one, CliGroup)]


def options(command: CliCommand) -> list[Option]:
    """All options of a command."""
    return [one.given_by for one in parameters(command.function) if isinstance(one.given_by, Option)]


def arguments(command: CliCommand) -> list[Argument]:
    """All that it takes without a flag."""
    return [one.given_by for one in parameters(command.function) if isinstance(one.given_by, Argument)]


def summary(command: CliCommand | CliGroup) -> str:
    """What it does, in a line."""
    text = command.help if isinstance(command, CliGroup) else inspect.cleandoc(command.function.__doc__ or "")
    return text.partition("\n")[0].rstrip(".")
