"""The script for fish, which shows what each word does.

It must start no Python and read no configuration when Tab is pressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from drbdbackup.cli import options
from drbdbackup.cli.command import CliCommand, CliGroup, Option
from drbdbackup.cli.completion import words

_HEAD = """\
# fish completion for drbdbackup, made from its commands.

function __drbdbackup_at --description 'Whether the words before the cursor name this command'
    set -l command
    set -l skip
    for word in (commandline -opc)[2..]
        if test -n "$skip"
            set skip
        else if test "$word" = --config
            set skip 1
        else if not string match -q -- '-*' $word
            and contains -- "$command" '' @GROUPS@
            set command (string join ' ' $command $word)
        end
    end
    test "$command" = "$argv[1]"
end

complete -c drbdbackup -f
"""


def script(commands: Sequence[CliCommand | CliGroup]) -> str:
    """The whole script."""
    known = " ".join(one.name for one in words.groups(commands))
    return _HEAD.replace("@GROUPS@", known) + "\n".join(_lines(commands)) + "\n"


def _lines(commands: Sequence[CliCommand | CliGroup]) -> Iterator[str]:
    yield from _names("", [one for one in commands if one.name != words.HIDDEN])
    yield f"{_at('')} -l version -d 'Print the version and exit'"
    for group in words.groups(commands):
        yield from _names(group.name, group.commands)
    for name, command in words.flat(commands):
        yield from _arguments(name, command)
    yield _option(options.CONFIG)
    yield f"complete -c drbdbackup -l help -d {_quoted(words.HELP)}"


def _names(name: str, commands: Sequence[CliCommand | CliGroup]) -> Iterator[str]:
    yield from (f"{_at(name)} -a {one.name} -d {_quoted(words.summary(one))}" for one in commands)


def _arguments(name: str, command: CliCommand) -> Iterator[str]:
    yield from (_option(one, name) for one in words.options(command) if one.flag != options.CONFIG.flag)
    if any(one.metavar in words.PATHS for one in words.arguments(command)):
        yield f"{_at(name)} -F"


def _option(option: Option, name: str | None = None) -> str:
    begin = "complete -c drbdbackup" if name is None else _at(name)
    taken = "" if not option.metavar else " -r -F" if option.metavar in words.PATHS else " -x"
    return f"{begin} -l {option.flag.removeprefix('--')}{taken} -d {_quoted(option.help.rstrip('.'))}"


def _at(name: str) -> str:
    return f"complete -c drbdbackup -n \"__drbdbackup_at '{name}'\""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
