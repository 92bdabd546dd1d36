"""A folder's entries are found in a manifest by halving it: all of them, in order, and nothing else is read."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drbdbackup.errors import Damaged
from drbdbackup.manifest import SETTLED, Entry, order, spool_line
from drbdbackup.pipeline.explore.manifest_index import ManifestIndex

FILE = Entry(kind=b"f", mode=0o644, uid=0, gid=0, size=5, mtime=0, ctime=0, inode=7, nlink=1, rdev=0, path=b"")
NAMES = st.sampled_from([b"a", b"b", b"a b", b"a!", b"a\1", b"\n", b"\\n", b"a" * 40, b"\xff"])
PATHS = st.sets(st.lists(NAMES, min_size=1, max_size=4).map(b"/".join), max_size=30)


def line(path: bytes, kind: bytes = b"f") -> bytes:
    entry = replace(FILE, kind=kind, path=path)
    return b"- %s - " % SETTLED + spool_line(*(getattr(entry, name) for name in Entry.__struct_fields__))


def manifest(files: set[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """The lines of a tree with these paths, and each path's type: what has something below it is a folder."""
    kinds = dict.fromkeys(files, b"f")
    for path in files:
        parts = path.split(b"/")
        kinds |= {b"/".join(parts[:depth]): b"d" for depth in range(1, len(parts))}
    kinds[b"."] = b"d"
    return b"".join(line(path, kinds[path]) for path in sorted(kinds, key=order)), kinds


@given(PATHS)
def test_each_folder_has_its_own_entries_in_order(files: set[bytes]) -> None:
    text, kinds = manifest(files)
    leaves = ManifestIndex(io.BytesIO(text))
    for folder in [b"", *(path for path, kind in kinds.items() if kind == b"d" and path != b".")]:
        below = [path for path in kinds if path != b"." and path.rpartition(b"/")[0] == folder]
        found = [(one.entry.path, one.entry.kind) for one in leaves.children(folder)]
        assert found == [(path, kinds[path]) for path in sorted(below, key=order)]


@given(PATHS, NAMES)
def test_what_is_not_there_or_no_folder_has_nothing(files: set[bytes], name: bytes) -> None:
    text, kinds = manifest(files)
    for folder in (name + b"/nowhere", *(path for path, kind in kinds.items() if kind == b"f")):
        if kinds.get(folder) != b"d":
            assert list(ManifestIndex(io.BytesIO(text)).children(folder)) == []


class Counted(io.BytesIO):
    """Counts the lines that are read."""

    lines = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.lines += 1
        return super().readline(size)


def test_a_subtree_that_nobody_opens_is_stepped_over() -> None:
    files = {b"%d/%05d" % (folder, number) for folder in range(5) for number in range(20_000)}
    counted = Counted(manifest(files)[0])
    leaves = ManifestIndex(counted)
    assert [one.entry.path for one in leaves.children(b"")] == [b"0", b"1", b"2", b"3", b"4"]
    assert counted.lines < 1000
    entries = leaves.children(b"3")
    assert [next(entries).entry.path for _ in range(3)] == [b"3/00000", b"3/00001", b"3/00002"]
    assert counted.lines < 1100


@pytest.mark.parametrize("wrong", [b"nonsense\n", line(b"../etc"), line(b"a/b"), line(b"a//b"), b"- s - f\n"])
def test_nonsense_is_damage(wrong: bytes) -> None:
    with pytest.raises(Damaged):
        list(ManifestIndex(io.BytesIO(line(b".", b"d") + wrong)).children(b""))


def test_an_empty_one_has_nothing() -> None:
    assert list(ManifestIndex(io.BytesIO(b"")).children(b"")) == []
