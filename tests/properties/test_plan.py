"""The plan against what anyone would say who has both lists in hand."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from drbdbackup.manifest import order, path_of, split, spool_line
from drbdbackup.pipeline.snapshot.plan import Base, Planned, Planner, Step, parts, read, write, write_same
from drbdbackup.targets.names import Names

Tree = dict[bytes, tuple[bytes, int, int, int]]
KINDS = b"fdlpscb"


def with_folders(tree: Tree) -> Tree:
    """A tree that can exist: what lies in a folder has that folder, and files hold nothing."""
    whole = dict(tree)
    for path in sorted(tree):
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            whole[b"/".join(parts[:depth])] = (b"d", 1, 9, 1)
    return whole


names = st.sampled_from([b"a", b"b", b"a-", b"a.", b"#", b"\xff", b"z\n"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
kinds = st.sampled_from([b"f", b"f", b"f", b"l", b"d"])
entries = st.tuples(kinds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 2))
trees = st.dictionaries(paths, entries, max_size=12).map(with_folders)
flags = st.sampled_from([b"s", b"s", b"s", b"r", b"c"])


def line(path: bytes, entry: tuple[bytes, int, int, int]) -> bytes:
    kind, size, inode, nlink = entry
    nlink = nlink if kind == b"f" else 1
    return spool_line(kind, 0o644, 0, 0, size, 7, 8, inode if nlink > 1 else hash_of(path), nlink, 0, path, b"t")


def hash_of(path: bytes) -> int:
    return 1000 + int.from_bytes(path[:4], "big") % 8_000_000


def ordered(tree: Tree) -> list[bytes]:
    return [line(path, tree[path]) for path in sorted(tree, key=order)]


@given(old=trees, new=trees, data=st.data())
def test_an_entry_is_linked_only_if_it_is_the_same_and_was_settled(old: Tree, new: Tree, data: st.DataObject) -> None:
    settled = {spool: data.draw(flags) for spool in ordered(old)}
    lines = iter([b"h %s - %s" % (settled[spool], spool) for spool in ordered(old)])
    planner = Planner([Base("old", lines)], KINDS)
    plan = [read(write(planner.decide(spool))) for spool in ordered(new)]
    plan = [planner.resolve(planned) for planned in plan]
    for planned in plan:
        same = settled.get(planned.line) == b"s"
        if planned.step in (Step.LINK, Step.LINK_GROUP):
            assert same
        elif planned.step is Step.COPY:
            assert not same
    groups: dict[bytes, set[Step]] = {}
    for planned in plan:
        fields = planned.line.split(b" ", 9)
        if fields[8] != b"1" and fields[0] != b"d":
            groups.setdefault(fields[7], set()).add(planned.step)
    for steps in groups.values():
        assert len(steps) == 1, "the names of one inode are treated alike"


HASH = b"0123456789abcdef0123456789abcdef"
fronts = st.sampled_from([HASH + b" s e30="] * 5 + [HASH + b" r e30=", HASH + b" s -", HASH + b" s eyI=", b"- s e30="])


@given(old=trees, new=trees, data=st.data())
def test_what_is_taken_in_runs_is_what_is_decided_one_by_one(old: Tree, new: Tree, data: st.DataObject) -> None:
    old = data.draw(st.sampled_from([old, new]))
    recorded = [data.draw(fronts) + b" " + spool for spool in ordered(old)]
    others = [b"h s - " + spool for spool in ordered(new)]
    lines, gone, decisions = ordered(new), ([], []), list[list[Planned]]()
    file = io.BytesIO()
    for in_runs in (False, True):
        bases = [Base("old", iter(recorded)), Base("other", iter(others))]
        bases[0].on_gone = gone[in_runs].append
        planner, number = Planner(bases, KINDS), 0
        decisions.append([])
        while number < len(lines):
            if in_runs and (same := planner.same_files(lines, number)):
                assert same.paths == [path_of(split(one)[1]) for one in same.recorded]
                number += len(same.paths)
                file.write(write_same(same))
            else:
                planned = planner.decide(lines[number])
                decisions[-1].append(planned)
                file.write(write(planned) if in_runs else b"")
                number += 1
        bases[0].finish()
    file.seek(0)
    assert [read(part) for _, part in parts(file, whole=False)] == decisions[False]
    assert gone[True] == gone[False]
    left = {planned.line for planned in decisions[True]}
    for spool in lines:
        plain = path_of(spool).find(b"\n") < 0 and spool[:1] == b"f" and spool.split(b" ", 9)[8] == b"1"
        is_sure = plain and HASH + b" s e30= " + spool in recorded
        assert spool in left or is_sure, "no more than that"
        if old == new:  # else the first after one that is gone is looked for
            assert (spool in left) != is_sure, "and no less"


def test_a_name_that_holds_a_line_is_not_taken_for_it() -> None:
    """Who names files must not have one taken for another: where the lines seem to be equal, one is longer."""
    spool = line(b"a", (b"f", 1, 1, 1))
    other = HASH + b" s e30= " + line(b"b " + spool[:-1], (b"f", 1, 1, 1))
    shifted = b"x s - f " + HASH[:24] + b" s e30= " + spool
    for recorded in (other, shifted):
        planner = Planner([Base("old", iter([recorded]))], KINDS)
        assert planner.same_files([spool], 0) is None


def test_nothing_is_taken_in_runs_where_a_target_cannot_hold_every_name_or_file() -> None:
    spool = line(b"a", (b"f", 1, 1, 1))
    for kinds_there, names_there in ((KINDS, Names(case_sensitive=False, any_name=False)), (b"d", None), (KINDS, None)):
        planner = Planner([Base("old", iter([HASH + b" s e30= " + spool]))], kinds_there, names_there)
        is_taken = planner.same_files([spool], 0) is not None
        assert is_taken == (kinds_there is KINDS and names_there is None)


@given(old=trees, new=trees)
def test_exactly_what_is_gone_or_of_another_type_is_told(old: Tree, new: Tree) -> None:
    gone: list[bytes] = []
    base = Base("old", iter([b"h s - " + spool for spool in ordered(old)]))
    base.on_gone = lambda spool: gone.append(path_of(spool))
    for spool in ordered(new):
        base.unchanged(spool)
    base.finish()
    assert gone == [path for path in sorted(old, key=order) if path not in new or new[path][0] != old[path][0]]


@given(first=trees, second=trees, new=trees)
def test_several_bases_serve_in_turn(first: Tree, second: Tree, new: Tree) -> None:
    bases = [Base(name, iter([b"h s - " + spool for spool in ordered(tree)]))
             for name, tree in zip("12", (first, second), strict=True)]  # fmt: skip
    planner = Planner(bases, KINDS)
    known = set(ordered(first)) | set(ordered(second))
    for spool in ordered(new):
        planned = planner.decide(spool)
        assert (planned.base >= 0) == (spool in known)
