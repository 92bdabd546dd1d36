"""What a name, a path and a glob mean, and which versions a path has had."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.pipeline.explore.pattern import matching
from drbdbackup.pipeline.explore.versions import History, Kept, Version, histories


@pytest.mark.parametrize(("pattern", "meant", "not_meant"), [
    (b"index.php", [b"index.php", b"www/shop/index.php"], [b"index.phpx", b"www/index.php/x", b"indexxphp"]),
    (b"www/shop", [b"www/shop"], [b"shop", b"old/www/shop", b"www/shop/x"]),
    (b"*.php", [b"a.php", b"www/a.php", b".php"], [b"a.php/x", b"a.phps"]),
    (b"www/*/a", [b"www/x/a"], [b"www/a", b"www/x/y/a"]),
    (b"**/a", [b"a", b"x/a", b"x/y/a"], [b"xa", b"a/x"]),
    (b"www/**", [b"www/a", b"www/a/b"], [b"www", b"wwwa"]),
    (b"www/**/a", [b"www/a", b"www/x/a", b"www/x/y/a"], [b"www/xa", b"a"]),
    (b"a?", [b"ab", b"x/a\xff", b"a\n"], [b"a", b"abc"]),
    (b"[a-c].txt", [b"b.txt", b"[a-c].txt"], [b"d.txt"]),
    (b"[!a-c]x", [b"dx"], [b"ax"]),
    (b"y/x[!a]b", [b"y/xcb"], [b"y/xab", b"y/x/b"]),
    (b"[]]", [b"]"], [b"["]),
    (b"[z-a]", [b"[z-a]"], [b"b"]),
    (b"[", [b"["], [b"a"]),
    (b"a[b", [b"a[b"], [b"ab"]),
    (b"[\\d]", [b"d", b"\\"], [b"7"]),
    (b"(a|b)+", [b"(a|b)+"], [b"a"]),
])  # fmt: skip
def test_a_pattern_means(pattern: bytes, meant: list[bytes], not_meant: list[bytes]) -> None:
    means = matching(pattern)
    assert [path for path in meant if not means(path)] == []
    assert [path for path in not_meant if means(path)] == []


@given(st.text("ab*?", min_size=1, max_size=9), st.lists(st.text("ab*", min_size=1, max_size=9), min_size=1))
def test_stars_mean_what_they_mean_to_python(pattern: str, names: list[str]) -> None:
    means = matching(pattern.encode())
    for name in names:
        wanted = fnmatchcase(name, pattern) or name == pattern
        assert means(name.encode()) == wanted


@pytest.mark.parametrize("pattern", [b"*-*-*-*-*.bak", b"www/*-*-*-*-*-x", b"**/*-?*-[-]*-*.x"])
def test_no_name_takes_long(pattern: bytes) -> None:
    means, begun = matching(pattern), time.monotonic()
    assert not means(b"www/" + b"-" * 250)
    assert time.monotonic() - begun < 1


@given(st.binary(min_size=1), st.binary())
def test_whatever_a_name_is_it_is_found_by_itself(name: bytes, other: bytes) -> None:
    assert matching(name)(name)
    matching(name)(other)


def a_file(content: str, mtime: int = 1) -> Version:
    return Version("f", content, len(content), mtime)


def test_the_same_content_size_and_time_are_one_version_over_all_snapshots() -> None:
    old, new = a_file("old"), a_file("new", 2)
    seen = {"4": {"a": new}, "3": {"a": new}, "2": {"a": old}, "1": {"a": old}}
    assert histories(seen, ["4", "3", "2", "1"]) == (
        History("a", (Kept(new, ("4", "3")), Kept(old, ("2", "1")))),
    )  # fmt: skip


def test_a_version_that_came_back_is_the_same_and_the_newest_holder_says_where_it_stands() -> None:
    one, other = a_file("one"), a_file("two")
    [found] = histories({"3": {"a": one}, "2": {"a": other}, "1": {"a": one}}, ["3", "2", "1"])
    assert found.versions == (Kept(one, ("3", "1")), Kept(other, ("2",)))


def test_time_alone_makes_another_version_of_a_file_and_none_of_a_folder() -> None:
    seen = {str(time): {"a": a_file("x", time), "d": Version("d", "", 0, time)} for time in (2, 1)}
    a, d = histories(seen, ["2", "1"])
    assert (len(a.versions), len(d.versions)) == (2, 1)


def test_a_snapshot_without_the_path_is_in_no_version_and_paths_are_in_order() -> None:
    seen = {"2": {"b": a_file("b")}, "1": {"a": a_file("a"), "b": a_file("b")}}
    assert [(one.path, one.versions[0].snapshots) for one in histories(seen, ["2", "1"])] == [
        ("a", ("1",)), ("b", ("2", "1")),
    ]  # fmt: skip
