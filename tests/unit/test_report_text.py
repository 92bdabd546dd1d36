"""Words for people: sizes, times, columns, and names that would do something to a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.model.problem import Problem
from drbdbackup.report import console, text

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(("count", "said"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (150 << 20, "150 MiB"), (3 << 40, "3.0 TiB"),
    (5 << 70, "5120 EiB"),
])  # fmt: skip
def test_a_size_is_short(count: int, said: str) -> None:
    assert text.size(count) == said


@pytest.mark.parametrize(("ago", "said"), [
    (0, "just now"), (40, "40 s ago"), (200, "3 min ago"), (7200, "2 h ago"), (86400, "24 h ago"),
    (172800, "2 days ago"), (-300, "in 5 min"),
])  # fmt: skip
def test_an_age_has_one_unit(ago: int, said: str) -> None:
    assert text.age(NOW - timedelta(seconds=ago), NOW) == said


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert text.printable("a\x1b[31m\nb\udcff\u202ec") == "a\\x1b[31m\\nb\\xff\\u202ec"


def test_a_name_in_any_script_stays_what_it_is() -> None:
    assert text.printable("Übung 東京 🗄") == "Übung 東京 🗄"


def test_of_problems_those_with_a_path_come_first_and_none_fills_the_screen():
    told = [Problem("", "rsync failed"), *(Problem(f"{number}/" + "deep/" * 800, "too long") for number in range(12))]
    shown = text.problems(told, 1000, ", elsewhere").split("\n")
    assert [line[:2] for line in shown] == [f"{number}/" for number in range(10)] + ["an"]
    assert all(len(line) < 300 for line in shown)
    assert shown[0].endswith("deep/: too long")
    assert shown[-1] == "and 990 more, elsewhere"
    assert text.problems([Problem("", "a"), Problem("b", "")], 2) == "b\na"


def test_lines_stay_lines() -> None:
    assert text.lines("one\ntwo\r") == "one\ntwo\\r"


def test_only_the_first_line_of_a_problem_begins_at_the_margin(capsys: pytest.CaptureFixture[str]) -> None:
    """The others may be of another node."""
    console.complain("www5 did not send it\nOK - all is well\n  drbdbackup: done", "Look there.")
    first, *further = capsys.readouterr().err.splitlines()
    assert first == "drbdbackup: www5 did not send it"
    assert further == ["  OK - all is well", "  drbdbackup: done", "  Look there."]


def test_columns_stand_one_below_the_other() -> None:
    assert text.aligned([("a", "bb"), ("ccc", "d", "e")], "  ") == ["  a    bb", "  ccc  d   e"]


def test_no_rows_are_no_lines() -> None:
    assert text.aligned([]) == []


def test_a_newline_in_a_cell_does_not_break_the_table() -> None:
    assert text.aligned([("a\nb", "c")]) == ["a\\nb  c"]


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (1204, "1,204 files")])
def test_things_are_counted_in_words(number: int, said: str) -> None:
    assert text.count(number, "file") == said


@given(st.lists(st.sampled_from(["raid", "a-rather-long-word", "2026-11-28 04:30", "3 h ago", "`mount /x`", "nas:"])),
       st.integers(40, 70), st.sampled_from(["", "  ", "  from      "]))  # fmt: skip
def test_a_line_is_broken_between_words_only_and_never_within_a_time(words: list[str], width: int, head: str) -> None:
    line = head + " ".join(words)
    lines = text.wrapped(line, width)
    assert " ".join(" ".join(lines).split()) == " ".join(line.split())
    if len(line) <= width:
        assert lines == [line]
    for one in lines:
        assert len(one) <= width
        assert not one.endswith(("2026-11-28", " 3", "`mount"))
    assert text.wrapped(line, None) == [line]
