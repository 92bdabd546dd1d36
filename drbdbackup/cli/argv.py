"""The strict reader of argv: it knows what scripts and cron write, and leaves the rest to typer.

typer costs as much processor as the whole of `latest`. This reader costs next to nothing, because it decides so little:
`--flag`, `--option VALUE`, `--option=VALUE`, arguments by their place, `--config FILE` before or behind the command. Of
what is wrong it refuses blank words and repeated options, which typer would take. What it does not wholly understand
(`--help`, an unknown option, a value that begins with `-`, too many arguments) is typer's, which sees argv as typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drbdbackup.cli.command import Argument, Call, CliCommand, CliGroup, Option, Parameter, parameters
from drbdbackup.errors import UsageError


def refuse_blank(argv: Sequence[str]) -> None:
    """Raises UsageError for a word, or the value of an option, that is empty or blank.

    It is what a script's variable is that was never set. Taken for "not given" it would mean everything: the whole
    volume, the newest snapshot, every target. Behind `--` a word is literal, and a file may be called " ".
    """
    before, options_may_come = "", True
    for word in argv:
        options_may_come = options_may_come and word != "--"
        flag, equals, value = word.partition("=")
        is_option = options_may_come and word.startswith("--")
        if not (word.strip() if options_may_come else word) or (is_option and equals and not value.strip()):
            what = flag if is_option else before or "an argument"
            raise UsageError(f"{what} is empty", "Give it a value or leave it out. Is a variable of a script not set?")
        before = word if is_option and not equals else ""


def refuse_repeated(command: CliCommand, argv: Sequence[str]) -> None:
    """Raises UsageError for an option that takes one value and has two: one of them would count for nothing."""
    named = [word.partition("=")[0] for word in argv if word.startswith("-")]
    if len(set(named)) == len(named) and all(word.startswith("--") for word in named):
        return
    wanted = [one for one in parameters(command.function) if one.type in (str, str | None)]
    options = [one.given_by for one in wanted if isinstance(one.given_by, Option)]
    once = {name: one.flag for one in options for name in (one.flag, one.short) if name}
    seen: set[str] = set()
    words = iter(argv[argv.index(command.name) + 1 :])
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            return
        if flag := once.get(name):
            if flag in seen:
                hint = "Name one; for several, start the command for each."
                raise UsageError(f"{flag} is given more than once", hint)
            seen.add(flag)
            if not equals:
                next(words, None)


def read(commands: Sequence[CliCommand | CliGroup], config: Option, argv: Sequence[str]) -> Call | None:
    """Return the call that argv means, or None where typer is to look at it. `config` may stand before the command."""
    before, words = before_the_command(config, argv)
    command = _named(commands, words)
    if isinstance(command, CliGroup):
        words = words[1:]
        command = _named(command.commands, words)
    if not isinstance(command, CliCommand):
        return None
    given = _given(parameters(command.function), words[1:])
    return None if given is None else Call(command.function, given, before)


def before_the_command(config: Option, argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the file named before the command, and the words from the command on."""
    match argv:
        case [config.flag, file, *words] if _is_value(file):
            return file, words
        case [word, *words] if word.startswith(f"{config.flag}=") and word != f"{config.flag}=":
            return word.partition("=")[2], words
    return None, argv


def _named(commands: Sequence[CliCommand | CliGroup], words: Sequence[str]) -> CliCommand | CliGroup | None:
    return next((one for one in commands if words and one.name == words[0]), None)


def _given(wanted: Sequence[Parameter], words: Sequence[str]) -> dict[str, Any] | None:
    """Return what these words give to the parameters, or None where anything is unusual."""
    options = {
        flag: one for one in wanted if isinstance(one.given_by, Option)
        for flag in (one.given_by.flag, one.given_by.short) if flag
    }  # fmt: skip
    arguments = [one for one in wanted if isinstance(one.given_by, Argument)]
    given: dict[str, Any] = {}
    ahead = iter(words)
    for word in ahead:
        flag, equals, value = word.partition("=")
        if _is_value(word) and arguments:
            given[arguments.pop(0).name] = word
        elif (option := options.get(flag)) is None:
            return None
        elif option.type is bool and not equals:
            given[option.name] = True
        elif option.type is bool or not _is_value(value if equals else (value := next(ahead, ""))):
            return None
        elif option.type in (str, str | None):
            given[option.name] = value
        elif option.type == list[str] | None:
            given.setdefault(option.name, []).append(value)
        else:
            return None
    return given if all(one.name in given for one in wanted if one.is_required) else None


def _is_value(word: str) -> bool:
    """Whether it cannot be an option; typer is asked about the empty one too."""
    return word != "" and not word.startswith("-")
