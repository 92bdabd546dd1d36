"""The script for zsh, which shows what each word does.

It must start no Python and read no configuration when Tab is pressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from drbdbackup.cli import options
from drbdbackup.cli.command import CliCommand, CliGroup, Option
from drbdbackup.cli.completion import words

# Before _arguments looks, the name of the command is taken out of the words: it is none of the command's arguments.
_HEAD = """\
#compdef drbdbackup
# zsh completion for drbdbackup, made from its commands.

_drbdbackup() {
    local command= skip= context state state_descr line at=1 i
    local -a names
    typeset -A opt_args
    for (( i = 2; i < CURRENT; i++ )); do
        if [[ -n $skip ]]; then skip=
        elif [[ $words[i] == --config ]]; then skip=1
        elif [[ $words[i] != -* && @GROUPS@ == *" $command "* ]]; then
            command="${command:+$command }$words[i]" at=$i
        fi
    done
    words=(drbdbackup "${(@)words[at+1,-1]}")
    (( CURRENT -= at - 1 ))
    case $command in
"""
_TAIL = """\
    esac
}

if [[ $funcstack[1] == _drbdbackup ]]; then _drbdbackup "$@"; else compdef _drbdbackup drbdbackup; fi
"""


def script(commands: Sequence[CliCommand | CliGroup]) -> str:
    """The whole script."""
    groups = words.groups(commands)
    known = _quoted(f" {''.join(f' {one.name}' for one in groups)} ")  # the empty command counts as a group
    lines = [*_names("''", [one for one in commands if one.name != words.HIDDEN])]
    for group in groups:
        lines += _names(f"({group.name})", group.commands)
    for name, command in words.flat(commands):
        lines += [f"    ({_quoted(name)})", f"        _arguments -s {' '.join(_arguments(command))} ;;"]
    return _HEAD.replace("@GROUPS@", known) + "\n".join(lines) + "\n" + _TAIL


def _names(pattern: str, commands: Sequence[CliCommand | CliGroup]) -> Iterator[str]:
    entries = (_quoted(f"{one.name}:{_escaped(words.summary(one))}") for one in commands)
    yield f"    {pattern})"
    yield f"        names=({' '.join(entries)})"
    if pattern == "''":
        of_program = [_option(options.CONFIG), _quoted("--version[Print the version and exit]"), _HELP]
        yield "        if [[ $words[CURRENT] == -* || $words[CURRENT-1] == --config ]]"
        yield f"        then _arguments {' '.join(of_program)}"
        yield "        else _describe -t commands command names"
        yield "        fi ;;"
    else:
        yield "        _describe -t commands command names ;;"


def _arguments(command: CliCommand) -> Iterator[str]:
    yield from (_option(one) for one in words.options(command) if one.flag != options.CONFIG.flag)
    yield from (_option(options.CONFIG), _HELP)
    for one in words.arguments(command):
        yield _quoted(f"*:{_escaped(one.metavar)}:{_values(one.metavar)}")


def _option(option: Option) -> str:
    taken = f":{_escaped(option.metavar)}:{_values(option.metavar)}" if option.metavar else ""
    return _quoted(f"*{option.flag}[{_escaped(option.help.rstrip('.'))}]{taken}")


def _values(metavar: str) -> str:
    return {"DIR": "_files -/"}.get(metavar, "_files" if metavar in words.PATHS else " ")


def _escaped(text: str) -> str:
    return re.sub(r"([\\:\[\]])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_HELP = _quoted(f"--help[{words.HELP}]")
