"""A folder that was only renamed is found again, and never one of which anything else differs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.manifest import RACY, SETTLED, Entry, Recorded, order
from drbdbackup.pipeline.explore import renamed_folders
from drbdbackup.pipeline.explore.renamed_folders import WholeFolders, renamed

NAMES = st.sampled_from([b"a", b"b", b"a b", b"a!"])
TREES = st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join), st.sampled_from(["1", "2"]), max_size=6)


def entry(path: bytes, kind: bytes = b"f", number: int = 7, content: str = "aa", **more: object) -> Recorded:
    known = Entry(
        kind=kind, mode=0o644, uid=0, gid=0, size=5, mtime=1_000, ctime=2_000, inode=number, nlink=1, rdev=0, path=path
    )
    return Recorded(replace(known, **more), content if kind == b"f" else "", SETTLED, b"")


def whole(*entries: Recorded, unread: Sequence[bytes] = ()) -> WholeFolders:
    side = WholeFolders()
    for one in sorted(entries, key=lambda one: order(one.entry.path)):
        side.add(one, is_sure=one.entry.path not in unread)
    return side


def tree(top: bytes, number: int = 1, content: str = "aa", **more: object) -> tuple[Recorded, ...]:
    return (
        entry(top, b"d", number), entry(top + b"/x", number=number + 1, content=content, **more),
        entry(top + b"/in", b"d", number + 2), entry(top + b"/in/y", number=number + 3, content="bb"),
    )  # fmt: skip


def told(gone: WholeFolders, came: WholeFolders) -> list[tuple[str, str, int]]:
    return [(one.before, one.after, one.entries) for one in renamed(gone, came)]


def test_it_is_told_once_with_all_that_is_in_it() -> None:
    assert told(whole(*tree(b"old")), whole(*tree(b"new/there"))) == [("old", "new/there", 4)]
    assert told(whole(*tree(b"old")), whole(*tree(b"new", 50))) == [("old", "new", 4)], "by its content"
    assert told(whole(*tree(b"old", content="")), whole(*tree(b"new"))) == [("old", "new", 4)], "by its inodes"
    assert told(whole(*tree(b"old")), whole(*tree(b"one"), *tree(b"two", 50))) == [("old", "one", 4)]


@pytest.mark.parametrize("other", [
    {"mode": 0o600}, {"uid": 1}, {"mtime": 2}, {"content": "cc"}, {"size": 6},
])  # fmt: skip
def test_what_differs_is_in_no_line_of_its_folder(other: dict[str, object]) -> None:
    """But the folder inside, which is the same, is one."""
    assert told(whole(*tree(b"old")), whole(*tree(b"new", **other))) == [("old/in", "new/in", 2)]


def test_what_nobody_knows_is_not_called_the_same() -> None:
    racy = [replace(one, flag=RACY, hash="") for one in tree(b"old")]
    assert told(whole(*racy), whole(*tree(b"new"))) == []
    touched = [replace(one, entry=replace(one.entry, ctime=9), hash="") for one in tree(b"old")]
    assert told(whole(*touched), whole(*tree(b"new"))) == []
    assert told(whole(*tree(b"old")), whole(*tree(b"new"), unread=[b"new/in"])) == []
    empty, other = entry(b"a", b"d", 1), entry(b"b", b"d", 2)
    assert told(whole(empty), whole(other)) == [], "empty folders are all alike"


def test_of_very_many_folders_the_outer_ones_are_kept() -> None:
    many = [entry(b"old/%d" % number, b"d", number + 10) for number in range(renamed_folders.KEPT + 5)]
    here = [replace(one, entry=replace(one.entry, path=one.entry.path.replace(b"old", b"new"))) for one in many]
    top = entry(b"old", b"d", 1), entry(b"new", b"d", 1)
    assert told(whole(top[0], *many), whole(top[1], *here)) == [("old", "new", len(many) + 1)]


def side(top: bytes, inode: int, files: dict[bytes, str]) -> list[Recorded]:
    folders = {b"/".join(path.split(b"/")[:depth]) for path in files for depth in range(1, path.count(b"/") + 1)}
    found = [entry(top + b"/" + path, b"d", inode) for path in folders]
    left = [(path, content) for path, content in files.items() if path not in folders]
    found += [entry(top + b"/" + path, number=inode, content=content) for path, content in left]
    return [entry(top, b"d", inode), *found]


@given(TREES, TREES)
def test_the_whole_is_renamed_if_and_only_if_it_is_equal(one: dict[bytes, str], other: dict[bytes, str]) -> None:
    gone, came = side(b"old", 1, one), side(b"new", 2, other)
    bare = [{(found.entry.path[3:], found.entry.kind, found.hash) for found in entries} for entries in (gone, came)]
    is_whole = ("old", "new", len(came)) in told(whole(*gone), whole(*came))
    assert is_whole == (bare[0] == bare[1] and bool(one))
