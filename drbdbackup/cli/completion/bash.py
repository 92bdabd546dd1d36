"""The script for bash.

It must start no Python and read no configuration when Tab is pressed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from drbdbackup.cli import options
from drbdbackup.cli.command import CliCommand, CliGroup
from drbdbackup.cli.completion import words

_HEAD = """\
# bash completion for drbdbackup, made from its commands.

_drbdbackup() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word skip=
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $skip ]]; then skip=
        elif [[ $word == --config ]]; then skip=1
        elif [[ $word != -* && " $_drbdbackup_groups " == *" $command "* ]]; then command="${command:+$command }$word"
        fi
    done
    case $prev in
"""
_TAIL = """\
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur"; [[ $cur == -* || ! $files ]] || compgen -f -- "$cur")
}
complete -o filenames -F _drbdbackup drbdbackup
"""


def script(commands: Sequence[CliCommand | CliGroup]) -> str:
    """The whole script."""
    groups = words.groups(commands)
    names = [one.name for one in commands if one.name != words.HIDDEN]
    every = [*words.flat(commands)]
    takes_path = {"--config", *(flag for _, one in every for flag in _flags(one, takes=words.PATHS))}
    takes_word = {flag for _, one in every for flag in _flags(one)} - takes_path
    lines = [
        f"    {'|'.join(sorted(takes_path))}) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;",
        f"    {'|'.join(sorted(takes_word))}) return ;;",
        "    esac",
        "    local words= files=",
        "    case $command in",
        f"    '') words={shlex.quote(' '.join([*names, '--config', '--version', '--help']))} ;;",
    ]
    lines += [f"    {one.name}) words={shlex.quote(' '.join(each.name for each in one.commands))} ;;" for one in groups]
    lines += [
        f"    {shlex.quote(name)}) words={shlex.quote(' '.join(_words(one)))}{_files(one)} ;;" for name, one in every
    ]
    # The empty command counts: behind the program comes the name of a command or of a group.
    known = f"_drbdbackup_groups={shlex.quote(' '.join(['', *(one.name for one in groups)]))}\n\n"
    first, rest = _HEAD.split("\n\n", 1)
    return f"{first}\n\n{known}{rest}" + "\n".join(lines) + "\n" + _TAIL


def _words(command: CliCommand) -> Iterator[str]:
    yield from (one.flag for one in words.options(command) if one.flag != options.CONFIG.flag)
    yield from (options.CONFIG.flag, "--help")


def _flags(command: CliCommand, takes: Sequence[str] = ()) -> Iterator[str]:
    """Those that take a value; with `takes` only of these kinds."""
    given = words.options(command)
    yield from (one.flag for one in given if one.metavar and (not takes or one.metavar in takes))


def _files(command: CliCommand) -> str:
    return " files=1" if any(one.metavar in words.PATHS for one in words.arguments(command)) else ""
