"""What is unchanged since an older copy, decided by comparing lines, and the plan that carries the decisions.

Unchanged means: every field of the walk equal, and the entry was settled when it was recorded. If one name of a
multiply linked inode is copied, all its names are. Nothing here touches a tree, and nothing grows with the number of
files: the inodes to be copied are kept in a bitmap of fixed size, where a collision only costs a copy.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice
from typing import BinaryIO

from msgspec import Struct

from drbdbackup.manifest import NO_ATTRIBUTES_WORD, SETTLED, order, path_of, split
from drbdbackup.targets.names import Names


class Step(Enum):
    """What happens to an entry; the value is the mark in the plan file."""

    FOLDER = b"/"
    LINK = b"="
    COPY = b"+"
    LINK_GROUP = b"?"  # unchanged, but a name of several: linked only if no other name of its inode is copied
    COPY_GROUP = b"*"
    KEEP = b"#"  # in the manifest only: the target cannot hold it
    ASIDE = b"@"  # the target cannot hold its name
    LOST = b"-"  # could not be put aside: not in the manifest


KEPT = -2  # in place of the index of a base: the entry is there already
# A line of the manifest that says of a plain file that it is settled and has no attributes: so it goes on after a hash,
_SURE = b" " + SETTLED + b" " + NO_ATTRIBUTES_WORD + b" f "
_HASH = 32  # which is so long,
_LINE = _HASH + len(_SURE) - 2  # and here the spool line begins.


class Planned(Struct, frozen=True):
    """One line of the plan: `front` is the older manifest's `hash flag attributes`, `base` the index of its copy.

    `base` is -1 if no copy has it, and `KEPT` if the tree that is filled has it already.
    """

    step: Step
    base: int
    front: bytes
    line: bytes


class SameFiles(Struct):
    """Plain files that are in the newest copy as the walk saw them: their paths, lines of its manifest, and bytes."""

    paths: list[bytes]
    recorded: list[bytes]
    bytes: int = 0


class Inodes:
    """A set of inode numbers of fixed size that may say yes too often, alike for every name of an inode."""

    BITS = 1 << 23

    def __init__(self) -> None:
        """Empty."""
        self._bits = bytearray(self.BITS // 8)

    def add(self, inode: int) -> None:
        """Put it in."""
        place = inode % self.BITS
        self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, inode: int) -> bool:
        place = inode % self.BITS
        return bool(self._bits[place >> 3] & 1 << (place & 7))


class Base:
    """An older copy's manifest, read in step with the walk. `data` is the folder that holds its tree."""

    def __init__(self, data: str, lines: Iterator[bytes]) -> None:
        """`on_gone` gets the spool line of each entry that is no longer there, or is of another type now."""
        self.data = data
        self.on_gone: Callable[[bytes], None] | None = None
        self.alike = b""
        self.was_unsure = False
        self._lines = lines
        self._recorded = b""
        self._front = b""
        self._flag = b""
        self._tail: bytes | None = b""
        self._next()

    def unchanged(self, line: bytes, flag: bytes = SETTLED) -> bytes:
        """The `hash flag attributes` recorded for this very entry, if its flag is that; else nothing.

        Asked in merge order. `alike` is then what was recorded for a plain file that differs by its inode only, as it
        does after a restore. `was_unsure` is then whether a path was recorded here that may have changed at that time.
        """
        self.alike, self.was_unsure = b"", False
        if self._tail != line and not self._reach(line):
            return b""
        self.was_unsure = self._flag != SETTLED
        same = self._tail == line
        front = self._front if same and self._flag == flag else b""
        if not same and self._tail is not None and self._tail[:1] != line[:1]:
            self._gone()
        if not same and self._flag == SETTLED and self._tail is not None and _is_alike(self._tail, line):
            self.alike = self._front
        self._next()
        return front

    def same_files(self, lines: Sequence[bytes], first: int) -> SameFiles:
        """What `unchanged` would say of the lines from the `first` on, as long as they are of plain files without any
        attributes that are recorded here. In a usual tree that is nearly all, so it is done with little ado.
        """
        paths, found, size, recorded = list[bytes](), list[bytes](), 0, self._recorded
        for line in islice(lines, first, None):
            if recorded[_LINE:] != line or not recorded.startswith(_SURE, _HASH) or recorded.find(b" ") != _HASH:
                break
            fields = line.split(b" ", 10)
            path = fields[10]
            if fields[8] != b"1" or b"\\" in path:
                break
            size += int(fields[4])
            paths.append(path[:-1])
            found.append(recorded)
            recorded = next(self._lines, b"")
        if found:
            self._take(recorded)
        return SameFiles(paths, found, size)

    def finish(self) -> None:
        """The walk is over: what is left here is gone."""
        while self._tail is not None:
            self._gone()
            self._next()

    def _reach(self, line: bytes) -> bool:
        """Move on to the line's path; whether it is here."""
        key = order(path_of(line))
        while self._tail is not None:
            mine = order(path_of(self._tail))
            if mine >= key:
                return mine == key
            self._gone()
            self._next()
        return False

    def _gone(self) -> None:
        if self.on_gone is not None and self._tail is not None:
            self.on_gone(self._tail)

    def _next(self) -> None:
        self._take(next(self._lines, b""))

    def _take(self, recorded: bytes) -> None:
        """The next line, or nothing if there is none."""
        self._recorded = recorded
        if not recorded:
            self._tail = None
        else:
            self._front, self._tail = split(recorded)
            self._flag = self._front.split(b" ", 2)[1]


class Planner:
    """Decides for each spool line in turn. `holdable` are the types of entries that the target can hold."""

    def __init__(self, bases: list[Base], holdable: bytes, names: Names | None = None) -> None:
        """`bases` in order of preference; `names` where the target cannot hold every name.

        `alike` is of the line that was decided last: if it is copied, the base in which it differs by its inode only,
        and so may have the same content, with what that recorded; else -1 and nothing.
        """
        self._bases = bases
        self._holdable = holdable
        self._names = names
        self.copied_inodes = Inodes()
        self.has_groups = False
        self.alike = (-1, b"")

    def decide(self, line: bytes) -> Planned:
        """What happens to this entry, but for the names of multiply linked inodes, which `resolve` decides."""
        kind, self.alike = line[:1], (-1, b"")
        if self._names is not None and not self._names.fits(path_of(line)):
            return Planned(Step.ASIDE, *self._match(line, SETTLED.upper()), line)
        if kind == b"d":
            return Planned(Step.FOLDER, *self._match(line), line)
        if kind not in self._holdable:
            return Planned(Step.KEEP, *self._match(line), line)
        base, front = self._match(line)
        fields = line.split(b" ", 9)
        if fields[8] == b"1":
            if not front:
                self.alike = self._alike()
            return Planned(Step.LINK if front else Step.COPY, base, front, line)
        self.has_groups = True
        if front:
            return Planned(Step.LINK_GROUP, base, front, line)
        self.copied_inodes.add(int(fields[7]))
        return Planned(Step.COPY_GROUP, -1, b"", line)

    def same_files(self, lines: Sequence[bytes], first: int) -> SameFiles | None:
        """The lines from the `first` on for which `decide` would say that they are linked from the first base, as far
        as that is seen at a glance; None if it is not.
        """
        if not self._bases or self._names is not None or b"f" not in self._holdable:
            return None
        found = self._bases[0].same_files(lines, first)
        return found if found.paths else None

    def resolve(self, planned: Planned) -> Planned:
        """The last word on a name of a multiply linked inode, once every line has been decided."""
        if planned.step is Step.LINK_GROUP and int(planned.line.split(b" ", 8)[7]) in self.copied_inodes:
            return Planned(Step.COPY_GROUP, -1, b"", planned.line)
        return planned

    def _match(self, line: bytes, flag: bytes = SETTLED) -> tuple[int, bytes]:
        """The first base that has this very entry, kept in the same way; its index and `hash flag attributes`."""
        for index, base in enumerate(self._bases):
            if front := base.unchanged(line, flag):
                return index, front
        return -1, b""


    def _alike(self) -> tuple[int, bytes]:
        """The first base in which the entry that was asked for last may have the same content, and what it recorded."""
        return next(((index, base.alike) for index, base in enumerate(self._bases) if base.alike), (-1, b""))


def _is_alike(one: bytes, other: bytes) -> bool:
    """Whether two spool lines are of a plain file and differ by inode and change time only."""
    mine, its = one.split(b" ", 9), other.split(b" ", 9)
    return mine[0] == b"f" and mine[8] == b"1" and (mine[:6], mine[8:]) == (its[:6], its[8:])


def write(planned: Planned) -> bytes:
    """A decision as a line of the plan file."""
    return b"%s %d %s %s" % (_MARKS[planned.step], planned.base, planned.front or b"- - -", planned.line)


def read(line: bytes) -> Planned:
    """The inverse of `write`."""
    mark, base, rest = line.split(b" ", 2)
    front, spool_line = split(rest)
    return Planned(_STEPS[mark], int(base), b"" if front == b"- - -" else front, spool_line)


def write_same(same: SameFiles) -> bytes:
    """Files that are linked from the first base as a part of the plan file: how many and how long, then their lines."""
    lines = b"".join(same.recorded)
    return b"%s %d %d\n%s" % (_SAME, len(same.recorded), len(lines), lines)


def parts(file: BinaryIO, *, whole: bool) -> Iterator[tuple[int, bytes]]:
    """A plan file: lines to `read`, each with a 0. If they are wanted `whole`, what `write_same` has made comes as the
    manifest's lines, with how many these are.
    """
    while line := file.readline():
        if line[:1] != _SAME:
            yield 0, line
            continue
        _, count, length = line.split(b" ")
        recorded = file.read(int(length))
        if whole:
            yield int(count), recorded
        else:
            for one in io.BytesIO(recorded):
                yield 0, b"%s 0 %s" % (_LINKED, one)


def linked(line: bytes) -> bytes:
    """The manifest's line in a plan's line, where that is known already; nothing for anything but a plain link."""
    return line.split(b" ", 2)[2] if line[:1] == _LINKED else b""


def is_plain(line: bytes) -> bool:
    """Whether a spool line is that of a regular file with one name."""
    return line[:1] == b"f" and line.split(b" ", 9)[8] == b"1"


def size_of(line: bytes) -> int:
    """The size in a spool line: content in bytes for a regular file, nothing for the rest."""
    return int(line.split(b" ", 5)[4]) if line[:1] == b"f" else 0


_STEPS = {step.value: step for step in Step}
_MARKS = {step: mark for mark, step in _STEPS.items()}
_LINKED = Step.LINK.value
_SAME = b"!"
