"""`-v` and `-q` with every command, and what a run says at its end on a terminal."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair
from tests.played_terminal import at_a_terminal


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path, extra="[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1")
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def test_quiet_leaves_problems_and_json_and_verbose_says_each_step(pair: PlayedPair) -> None:
    ended = pair.run("www4", "run", "--verbose")
    name = pair.copies()[0]["snapshot"]
    assert (ended.returncode, ended.stdout) == (0, "")
    steps = ended.stderr.splitlines()
    assert all(step.startswith("-- ") for step in steps)
    assert [step for step in steps if step.startswith("-- raid: proceed: ")]
    assert f"-- {name} published nas" in steps
    for words in (["-q", "list"], ["list", "--quiet"], ["latest", "-q"], ["run", "--dry-run", "-q"]):
        ended = pair.run("www4", *words)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), words
    assert json.loads(pair.run("www4", "list", "-q", "--json").stdout)["copies"]
    assert pair.run("www4", "-q", "list", "--node", "www9").stderr.startswith("drbdbackup: --node www9")
    for words, problem in (
        (["check"], "DRBDBACKUP WARNING"), (["check", "-w", "soon"], "DRBDBACKUP UNKNOWN"), (["doctor"], "\nFAIL "),
    ):  # fmt: skip
        ended, loud = pair.run("www4", "-q", *words), pair.run("www4", *words)
        assert ended.returncode == loud.returncode > 0
        assert problem in ended.stdout, "an answer that is a problem is told"
    (pair.folder / "nas").rename(pair.folder / "away")
    ended = pair.run("www4", "sync", "-q")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "is not a folder" in ended.stdout
    assert pair.run("www4", "run", "-q").stdout == "", "the problem is on stderr"
    (pair.folder / "away").rename(pair.folder / "nas")
    pair.backs_up("www4", "--note", "-q")
    assert pair.copies()[0]["note"] == "-q", "a word behind an option that takes one is its value"


def test_on_a_terminal_a_run_says_what_went_what_stays_and_when_the_next_is_due(pair: PlayedPair) -> None:
    pair.backs_up()
    gone = pair.copies()[0]["snapshot"]
    status, seen = at_a_terminal(shlex.join(pair.command("www4", "run")), [])
    assert status == 0, seen
    said = seen.replace("\r", "").splitlines()
    assert f"raid: pruned on nas: {gone}" in said
    assert "raid: copies kept: 1 on nas" in said
    assert said[-1].startswith("Next due: ")
    status, seen = at_a_terminal(shlex.join(pair.command("www4", "run", "-q")), [])
    assert (status, seen) == (0, "")


def test_a_dry_run_says_that_it_was_one(pair: PlayedPair) -> None:
    said = pair.run("www4", "run", "--dry-run").stdout.splitlines()
    assert said[-1].startswith("This was a dry run: nothing was changed.")
    assert pair.json("www4", "latest", status=6)["backup"] is None


@pytest.mark.parametrize(("word", "meant"), [("backup", "run"), ("logs", "runs")])
def test_the_words_of_other_programs_are_understood(pair: PlayedPair, word: str, meant: str) -> None:
    ended = pair.run("www4", word)
    assert ended.returncode == 2
    assert f"`drbdbackup {meant}`" in ended.stderr
    assert pair.run("www4", "help", meant).stdout == pair.run("www4", meant, "--help").stdout != ""


def test_an_alarm_has_a_colour_for_a_person_who_wants_colours(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.newest("nas") / "page").write_bytes(b"y" * 1000)
    assert pair.run("www4", "verify").returncode == 1
    command = shlex.join(pair.command("www4", "list"))
    for variables, is_red in (("TERM=xterm", True), ("TERM=xterm NO_COLOR=1", False), ("TERM=dumb", False)):
        _, seen = at_a_terminal(f"{variables} {command}", [])
        assert "DAMAGED" in seen
        assert ("\x1b[31mDAMAGED\x1b[0m" in seen) is is_red, variables
        assert is_red or "\x1b" not in seen, variables
    assert "\x1b" not in pair.run("www4", "list").stdout


def test_each_bar_stays_on_its_line_on_a_narrow_terminal_and_where_a_target_fails(pair: PlayedPair) -> None:
    (pair.volume / "page").write_bytes(b"x" * (3 << 20))
    pair.add_share("away")
    pair.backs_up()
    (pair.volume / "page").write_bytes(b"y" * (3 << 20))
    (pair.folder / "away").rename(pair.folder / "gone")
    _, seen = at_a_terminal(f"COLUMNS=60 TERM=xterm {shlex.join(pair.command('www4', 'run'))}", [])
    bars = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", "\n").split("\n")
    drawn = [line.rstrip() for line in bars if line.startswith("raid to ")]
    assert [line for line in drawn if line.startswith("raid to nas") and line.endswith("complete")]
    assert [line for line in drawn if line.startswith("raid to away") and line.endswith("failed")]
    assert all(len(line) <= 60 and "MB/s" not in line and " ? " not in line for line in drawn), drawn
