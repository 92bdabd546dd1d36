"""What is found of a manifest below a path, whatever the names are, is what a look at each line finds."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from drbdbackup.manifest import ROOT, is_safe, order, spool_line
from drbdbackup.pipeline.files.compare import folders_above, lines_below, recorded_below

NAMES = st.sampled_from([b"a", b"b", b"a b", b" b", b"a\n", b"a\t", b"a\\", b"a-", b"ab", b"\xff", b".a"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)


def line(path: bytes) -> bytes:
    kind = b"l" if path.endswith(b"b") else b"f"
    return b"- s e30= " + spool_line(kind, 0o644, 0, 0, 1, 2, 3, 4, 1, 0, path, b"to a/b" if kind == b"l" else b"")


@given(st.sets(PATHS, max_size=40), PATHS)
@example({b"b", b"a b", b"a b/b", b"b/a", b"b/a b"}, b"b/a")
@example({b"a", b"a-", b"a/b", b"a/b/a", b"ab"}, b"a/b")
@example({b"ab/a", b"a"}, b"a")
@example({b"b"}, b"b/a")
def test_what_is_below_a_path_is_found_without_a_look_at_the_rest(paths: set[bytes], top: bytes) -> None:
    lines = [line(path) for path in sorted({ROOT, *paths}, key=order)]
    above = folders_above(top)
    found = [one.entry.path for one in recorded_below(lines, top, above)]
    every = [one.entry.path for one in recorded_below(lines, b"")]
    assert every == sorted({ROOT, *paths}, key=order)
    assert found == [path for path in every if (path + b"/").startswith(top + b"/") or path in above]
    read = iter(lines)
    few = list(lines_below(read, top))
    assert [one.entry.path for one in recorded_below(few, top)] == [path for path in found if path not in above]
    behind = [path for path in every if order(path) > order(top) and not (path + b"/").startswith(top + b"/")]
    if any((path + b"/").startswith(top + b"/") for path in every):
        assert len(list(read)) == max(0, len(behind) - 1)  # it stops at the first one behind


@given(st.lists(st.sampled_from([b"", b".", b"..", b"a", b"...", b".a"]), max_size=4).map(b"/".join))
def test_a_path_is_safe_if_no_part_of_it_leads_elsewhere(path: bytes) -> None:
    parts = path.split(b"/")
    assert is_safe(path) == (not {b"", b".", b".."} & set(parts))
