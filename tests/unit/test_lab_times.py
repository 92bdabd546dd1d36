"""The lab's table of where its time went adds up."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.times import Note, Spent, by_kind, keep, length, table

NOTES = [
    Note(8.0, 12.0, "command", "www4# true"),
    Note(0.0, 10.0, "wait", "ssh to www4"),
    Note(2.0, 4.0, "command", "www4# hostname\nsync"),
    Note(3.0, 20.0, "drbdbackup", "www4# drbdbackup run"),
]


def test_a_second_in_which_two_things_went_on_counts_once() -> None:
    assert length(NOTES[:3]) == 12
    assert by_kind(NOTES) == {"beginning": 0, "wait": 10, "drbdbackup": 10, "command": 0}
    assert by_kind([*NOTES, Note(30, 31, "command", "x"), Note(0, 1, "beginning", "y")])["command"] == 1


def test_the_longest_scenario_comes_first() -> None:
    head, *lines = table([Spent("short", 1.0, 0.5, []), Spent("long", 20.0, 3.0, NOTES)])
    assert head.split() == ["seconds", "processor", "beginning", "wait", "drbdbackup", "command", "scenario"]
    assert [line.split() for line in lines] == [
        ["20.0", "3.0", "0.0", "10.0", "10.0", "0.0", "long"],
        ["1.0", "0.5", "0.0", "0.0", "0.0", "0.0", "short"],
    ]


def test_every_note_is_a_line_of_the_file_in_their_order(tmp_path: Path) -> None:
    keep([Spent("one", 20.0, 3.0, NOTES)], tmp_path / "times")
    lines = (tmp_path / "times").read_text().splitlines()
    assert [line.split("\t")[:4] for line in lines][:2] == [
        ["one", "0.0", "10.0", "wait"],
        ["one", "2.0", "2.0", "command"],
    ]
    assert lines[1].endswith("\twww4# hostname ; sync")
    assert len(lines) == len(NOTES)
