"""Each shell's script completes every command with all its options, and files where it takes files."""

from __future__ import annotations

import re

import pytest

from drbdbackup.cli.app import COMMANDS
from drbdbackup.cli.completion import bash, fish, words, zsh

SCRIPTS = {"bash": bash.script(COMMANDS), "zsh": zsh.script(COMMANDS), "fish": fish.script(COMMANDS)}
OFFERED = {
    "": {*(one.name for one in COMMANDS), "--config", "--version", "--help"} - {words.HIDDEN},
    **{group.name: {one.name for one in group.commands} for group in words.groups(COMMANDS)},
    **{
        name: {*(one.flag for one in words.options(command)), "--config", "--help"}
        for name, command in words.flat(COMMANDS)
    },
}


def lines(shell: str, name: str) -> str:
    """Those of a script that are about a command, or a group; behind the program its name is ""."""
    quoted = f"(?:'{name}'|{name})" if name else "''"
    about = {
        "bash": rf"^    {quoted}\) (words=.*) ;;$",
        "zsh": rf"^    \(?{quoted}\)+\n((?:        .*\n?)+)",
        "fish": rf"^complete -c drbdbackup -n \"__drbdbackup_at '{name}'\" (.*)$",
    }[shell]
    return "\n".join(re.findall(about, SCRIPTS[shell], re.MULTILINE))


def offered(shell: str, name: str) -> set[str]:
    """The words that are completed there."""
    found = lines(shell, name)
    if shell == "bash":
        return set(re.findall(r"[\w-]+", found.removeprefix("words=").replace(" files=1", "")))
    if shell == "zsh":
        return {*re.findall(r"'\*?(--[\w-]+)\[", found), *re.findall(r"[( ]'([a-z]+):", found)}
    everywhere = re.findall(r"^complete -c drbdbackup -l ([\w-]+)", SCRIPTS["fish"], re.MULTILINE)
    flags = {f"--{one}" for one in (*re.findall(r"^-l ([\w-]+)", found, re.MULTILINE), *everywhere)}
    is_group = name in {one.name for one in words.groups(COMMANDS)}
    return set(re.findall(r"^-a ([\w-]+)", found, re.MULTILINE)) | (set() if is_group else flags)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_command_is_completed_with_all_its_options_and_nothing_else(shell: str) -> None:
    assert len(OFFERED) > 40
    assert {name: offered(shell, name) for name in OFFERED} == OFFERED


@pytest.mark.parametrize(("shell", "files"), [("bash", "files=1"), ("zsh", ":_files'"), ("fish", "\n-F")])
def test_files_are_completed_where_a_command_takes_one(shell: str, files: str) -> None:
    assert lines(shell, "pair init").count(files) == lines(shell, "notify test").count(files) + 1


def test_an_apostrophe_and_a_bracket_do_not_end_a_text() -> None:
    """As zsh 5.9 and fish 3.6 read them."""
    assert r"'replicate:Fetch the newest snapshot to this node'\''s own disk" in SCRIPTS["zsh"]
    assert r"of \[notify\]" in SCRIPTS["zsh"]
    assert r"-a replicate -d 'Fetch the newest snapshot to this node\'s own disk" in SCRIPTS["fish"]
