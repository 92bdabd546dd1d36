"""Patterns mean what pathspec takes them for, and no name that a user of the volume chooses makes them slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from drbdbackup.exclusion import compiled
from drbdbackup.scan import exclusion

PARTS = [
    "a", "b", "-", "*", "**", "?", "/", "**/", "/**/", "/**", "*a", "[ab]", "[!a]", "[]a]", "[+-9]", "!", "\\*", ".",
]  # fmt: skip
patterns = st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=9).map("".join), min_size=1, max_size=3)
paths = st.lists(st.text("ab-.*\u00e9", min_size=1, max_size=4), min_size=1, max_size=7).map("/".join)


@settings(max_examples=400, deadline=None)
@given(patterns, st.lists(paths, min_size=1, max_size=8))
@example(["**/*a*/**/a*b/**/x"], ["a/ab/b/a-b/x", "a/a/ab/x/y", "b/ab/x"])
@example(["*a*[!b]*b"], ["aab", "ab-b/b", "aa-ab"])
def test_they_mean_what_they_meant(said: list[str], asked: list[str]) -> None:
    try:
        spec = GitIgnoreSpec.from_lines(said)
    except (ValueError, re.error):
        assume(False)
    is_excluded = compiled(said)
    for path in (*asked, *(f"{one}/" for one in asked)):
        assert is_excluded(path) == spec.match_file(path), path


@pytest.mark.parametrize("pattern", ["*-*-*-*-*.bak", "**/*a*/**/*a*/**/x", "a/**/*a*/**/a*/**/*-*-*-x"])
def test_no_name_takes_long(pattern: str) -> None:
    is_excluded, begun = exclusion((pattern,)), time.monotonic()
    assert is_excluded is not None
    for name in (b"-" * 250, b"/".join([b"a"] * 2000), b"/".join([b"aaa"] * 1000), b"a/" * 1000 + b"-" * 250):
        assert not is_excluded(name, False)
    assert time.monotonic() - begun < 2


def test_a_newline_in_the_name_of_a_folder_above_changes_nothing() -> None:
    is_excluded = exclusion(("cache/", "**/a/**/*.tmp"))
    assert is_excluded is not None
    assert is_excluded(b"of\nhis/cache", True)
    assert is_excluded(b"of\nhis/a/of\nhis/x.tmp", False)
