"""Two manifests side by side: every path once, and in which ways an entry differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.errors import Damaged
from drbdbackup.manifest import CHANGED, RACY, SETTLED, Entry, Recorded, order, spool_line
from drbdbackup.pipeline.explore.changes import ChangeKind, change, is_in_doubt, is_same, merged, parsed, unhashed

FILE = Entry(
    kind=b"f", mode=0o644, uid=0, gid=0, size=5, mtime=1_000, ctime=2_000, inode=7, nlink=1, rdev=0, path=b"www/a"
)
FOLDER = replace(FILE, kind=b"d", mode=0o755, nlink=2)
LINK = replace(FILE, kind=b"l", mode=0o777, link=b"there")
NAMES = st.sampled_from([b"a", b"b", b"a b", b"a!", b"\n", b"\\n"])
PATHS = st.sets(st.lists(NAMES, min_size=1, max_size=3).map(b"/".join))


def line(entry: Entry, content: str = "-", flag: bytes = SETTLED) -> bytes:
    fields = [getattr(entry, name) for name in Entry.__struct_fields__]
    return b"%s %s - " % (content.encode(), flag) + spool_line(*fields)


def was(entry: Entry = FILE, content: str = "aa", flag: bytes = SETTLED) -> Recorded:
    return Recorded(entry, content if entry.kind == b"f" else "", flag, b"")


@given(PATHS, PATHS)
def test_each_path_comes_once_with_what_either_side_has_of_it(left: set[bytes], right: set[bytes]) -> None:
    sides = [[line(replace(FILE, path=path)) for path in sorted(paths, key=order)] for paths in (left, right)]
    met = list(merged(*sides))
    paths = [parsed(one or other or b"").entry.path for one, other in met]
    assert paths == sorted(left | right, key=order)
    assert {path for path, (one, _) in zip(paths, met, strict=True) if one} == left
    assert {path for path, (_, other) in zip(paths, met, strict=True) if other} == right


@pytest.mark.parametrize("wrong", [
    [b"nonsense\n"], [line(FILE), line(FILE)], [line(FILE), line(replace(FILE, path=b"a"))],
])  # fmt: skip
def test_disorder_and_nonsense_are_damage(wrong: list[bytes]) -> None:
    with pytest.raises(Damaged):
        list(merged(wrong, []))
    with pytest.raises(Damaged):
        list(merged([], wrong))


def test_a_path_that_leads_elsewhere_is_damage() -> None:
    with pytest.raises(Damaged):
        parsed(line(replace(FILE, path=b"../etc/passwd")))


@pytest.mark.parametrize(("after", "kind", "what"), [
    (was(content="bb"), ChangeKind.CONTENT, ("content",)),
    (was(replace(FILE, mtime=1), content="bb"), ChangeKind.CONTENT, ("content",)),
    (was(replace(FILE, mode=0o600), content="bb"), ChangeKind.CONTENT, ("content", "mode")),
    (was(replace(FILE, mode=0o600, ctime=9)), ChangeKind.ATTRIBUTES, ("mode",)),
    (was(replace(FILE, uid=1, gid=2)), ChangeKind.ATTRIBUTES, ("owner",)),
    (was(replace(FILE, mtime=1)), ChangeKind.ATTRIBUTES, ("time",)),
    (was(replace(FILE, ctime=9)), ChangeKind.ATTRIBUTES, ("change time",)),
    (was(LINK), ChangeKind.CONTENT, ("type",)),
])  # fmt: skip
def test_a_file_differs(after: Recorded, kind: ChangeKind, what: tuple[str, ...]) -> None:
    found = change(was(), after)
    assert found is not None
    assert (found.kind, found.what) == (kind, what)


@pytest.mark.parametrize(("before", "after"), [
    (was(), was()),
    (was(), was(replace(FILE, ctime=9, inode=8))),  # restored: another inode with everything else as it was
    (was(), was(replace(FILE, ctime=9, nlink=2))),  # a link more
    (was(), was(flag=RACY)),
    (was(replace(FILE, size=3), flag=CHANGED), was()),  # its hash is of what was copied
    (was(FOLDER), was(replace(FOLDER, mtime=9, ctime=9, nlink=3, size=8192))),
    (was(LINK), was(replace(LINK, mode=0o755))),
])  # fmt: skip
def test_an_entry_is_the_same(before: Recorded, after: Recorded) -> None:
    assert change(before, after) is None
    assert change(after, before) is None


def test_a_link_elsewhere_and_another_device_are_other_content() -> None:
    assert change(was(LINK), was(replace(LINK, link=b"x"))).kind is ChangeKind.CONTENT
    device = replace(FILE, kind=b"c", rdev=1)
    assert change(was(device), was(replace(device, rdev=2))).kind is ChangeKind.CONTENT
    assert change(was(FOLDER), was(replace(FOLDER, mode=0o700))).what == ("mode",)


def test_what_a_walk_sees_unchanged_needs_no_look() -> None:
    [today] = unhashed([line(FILE).split(b" ", 3)[3]])
    assert is_same(line(FILE, "aa"), today)
    assert is_same(today, line(FILE, "aa"))
    assert is_same(line(FILE, "aa", SETTLED.upper()), today)
    for flag in (RACY, CHANGED):
        assert not is_same(line(FILE, "aa", flag), today)
    assert not is_same(line(FILE, "aa"), line(FILE, "bb"))
    assert not is_same(line(replace(FILE, ctime=9), "aa"), today)


def test_only_a_file_of_the_same_size_without_a_hash_on_one_side_is_in_doubt() -> None:
    today = was(replace(FILE, ctime=9), content="")
    assert is_in_doubt(was(), today)
    assert is_in_doubt(today, was())
    assert is_in_doubt(was(replace(FILE, size=3), flag=CHANGED), today)
    assert not is_in_doubt(was(replace(FILE, size=3)), today)
    assert not is_in_doubt(was(), was(content="bb"))
    assert not is_in_doubt(was(FOLDER), was(FOLDER))
    assert change(was(replace(FILE, size=3)), today).kind is ChangeKind.CONTENT
    assert change(was(), today).kind is ChangeKind.CONTENT, "what nobody has read is not called the same"


@given(st.sampled_from([FILE, FOLDER, LINK]), st.integers(0, 0o7777), st.integers(0, 3), st.sampled_from("ab"))
def test_nothing_differs_from_itself_and_what_differs_does_so_both_ways(
    entry: Entry, mode: int, uid: int, content: str
) -> None:
    one, other = was(entry), was(replace(entry, mode=mode, uid=uid), content * 2)
    assert change(one, one) is None
    there, back = change(one, other), change(other, one)
    assert (there and there.what) == (back and back.what)
