"""What each command says, on terminals of several widths, in colour and without: golden files in tests/golden.

`make golden` writes them anew. `NAME.txt` has what is said in a pipe and at three widths, `NAME.ansi` the same in
colour (`less -R` shows it). Read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.commands.list_copies import Listed
from drbdbackup.pipeline.copies.known_copies import KnownCopy
from drbdbackup.report import overview
from tests.played_screens import LATEST, NOW, SCREENS, SNAPSHOTS, said

GOLDEN = Path(__file__).parents[1] / "golden"
WIDTHS = (60, 80, 120)
ESCAPES = re.compile(r"\x1b\[[\d;]*m")
AS_LONG_AS_THEY_ARE = {"check", "diff"}  # a plugin's lines, and paths
DRAWN = {"run-progress"}  # by rich: bars, whose rest is drawn in colour only, and which are in no pipe
BARS = (("to", "nas"), ("to", "disk"), ("from", "nas"))
WHOLE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d (?:s|min|h|days|[KMGT]iB)\b")  # never broken


def heading(columns: int | None) -> str:
    return f"======== {f'{columns} columns' if columns else 'in a pipe'}\n"


def plain(name: str) -> str:
    return "".join(heading(columns) + said(name, columns) for columns in (None, *WIDTHS))


def coloured(name: str) -> str:
    return "".join(heading(columns) + said(name, columns, in_colour=True) for columns in WIDTHS)


@pytest.mark.parametrize("name", SCREENS)
def test_it_says_what_the_file_has(name: str) -> None:
    for file, told in ((GOLDEN / f"{name}.txt", plain(name)), (GOLDEN / f"{name}.ansi", coloured(name))):
        if os.environ.get("DRBDBACKUP_NEW_SCREENS"):
            GOLDEN.mkdir(exist_ok=True)
            file.write_text(told)
        assert told == file.read_text(), f"{file.name}: `make golden` writes it anew"


@pytest.mark.parametrize("name", sorted(SCREENS.keys() - DRAWN))
def test_colours_change_nothing_else_and_a_pipe_has_none(name: str) -> None:
    for columns in WIDTHS:
        assert ESCAPES.sub("", said(name, columns, in_colour=True)) == said(name, columns)
    assert "\x1b" not in said(name, None, in_colour=True)
    assert "\x1b" not in said(name, 80)


@pytest.mark.parametrize("name", sorted(SCREENS.keys() - AS_LONG_AS_THEY_ARE - DRAWN))
def test_no_line_is_longer_than_the_terminal_and_no_word_or_time_is_broken(name: str) -> None:
    whole = said(name, None)
    words, kept = set(whole.split()), {found[0] for found in WHOLE.finditer(whole)}
    for columns in (*WIDTHS, 70):
        told = said(name, columns)
        too_long = [line for line in told.splitlines() if len(line) > columns and len(line.split()[-1]) < columns - 16]
        assert too_long == [], columns
        bars = {word for word in told.split() if set(word) <= set("━─")}
        assert {word for word in set(told.split()) - words - bars if not word.isupper()} == set(), columns
        assert {found[0] for found in WHOLE.finditer(told)} <= kept
        for cut in re.findall(r"\d{4}-\d\d-\d\d$|(?<=\s)\(?\d[\d,.]*$", told, re.MULTILINE):
            assert re.search(rf"{re.escape(cut)}\n", whole), (columns, cut, "its other half is on the next line")


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_target_that_failed_leaves_the_other_bars_a_line_each(columns: int) -> None:
    lines = said("run-progress", columns).splitlines()
    assert [line.split()[:3] for line in lines] == [["raid", way, name] for way, name in BARS]
    assert all(len(line) <= columns for line in lines)


def test_every_golden_file_is_of_a_command() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == {f"{name}.{end}" for name in SCREENS for end in ("txt", "ansi")}


def test_of_several_resources_each_row_says_whose_it_is_and_the_nodes_come_once() -> None:
    mail = tuple(KnownCopy(replace(one.copy, resource="mail"), one.reach) for one in SNAPSHOTS[0])
    rows = list(overview.snapshots(Listed((SNAPSHOTS[0], mail)), 80, NOW))
    assert [row.split()[0] for row in rows if not row.startswith(" ")] == ["RESOURCE", "raid", "mail"]
    shown = list(overview.latest([LATEST, replace(LATEST, resource="mail")], 80, NOW))
    assert shown.count("What is known of each node:") == shown.count("Not read:") == 1
