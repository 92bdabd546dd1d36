"""What differs between two manifests, or a manifest and a walk of today: two streams side by side. Pure.

Lines are compared as bytes and parsed only where they differ; nothing here holds more than one entry of each. A walk's
lines come as manifest lines without a hash (see `unhashed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from msgspec import Struct

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.manifest import CHANGED, NOTHING, SETTLED, Entry, Recorded, order, path_of, split

_TODAY = b" ".join((NOTHING, SETTLED, NOTHING))
_CONTENT = frozenset({"type", "content"})


class ChangeKind(Enum):
    """What became of an entry; ATTRIBUTES means that its content is the same."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    ATTRIBUTES = "attributes"


class Change(Struct, frozen=True):
    """One entry that is not the same. `what` says in which ways; an entry that is not there on a side is None there."""

    kind: ChangeKind
    before: Entry | None
    after: Entry | None
    what: tuple[str, ...] = ()

    @property
    def entry(self) -> Entry:
        """The entry as it is, or was when it still was there."""
        found = self.after or self.before
        assert found is not None  # noqa: S101  one of them is there
        return found


def unhashed(spool_lines: Iterable[bytes]) -> Iterator[bytes]:
    """A walk's lines as those of a manifest that knows no hashes."""
    return (_TODAY + b" " + line for line in spool_lines)


def merged(before: Iterable[bytes], after: Iterable[bytes]) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Both side by side in merge order: each path once, None where it is missing. Raises Damaged for disorder."""
    left, right = _keyed(before), _keyed(after)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            yield one and one[1], None
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield None, other[1]
            other = next(right, None)
        else:
            yield one[1], other[1]
            one, other = next(left, None), next(right, None)


def is_same(before: bytes, after: bytes) -> bool:
    """Whether two lines of one path need no further look: all that a walk sees is equal, and so is the content."""
    front, tail = split(before)
    other_front, other_tail = split(after)
    if tail != other_tail:
        return False
    if _TODAY in (front, other_front):
        flags = {one.split(b" ")[1] for one in (front, other_front)}
        return flags <= {SETTLED, SETTLED.upper()}
    return front.split(b" ")[0] == other_front.split(b" ")[0]


def is_in_doubt(before: Recorded, after: Recorded) -> bool:
    """Whether only reading a file can tell whether its content is the same: one side has no hash, and it may be."""
    one, other = before.entry, after.entry
    if one.kind != b"f" or other.kind != b"f" or (before.hash and after.hash):
        return False
    return one.size == other.size or CHANGED in (before.flag.lower(), after.flag.lower())


def change(before: Recorded, after: Recorded) -> Change | None:
    """How an entry differs that is on both sides; None if it is the same. Of doubts (see above) the worse is taken."""
    what = _differences(before, after)
    if not what:
        return None
    kind = ChangeKind.CONTENT if _CONTENT & set(what) else ChangeKind.ATTRIBUTES
    return Change(kind, before.entry, after.entry, what)


def parsed(line: bytes) -> Recorded:
    """A line, known to name nothing outside. Raises Damaged."""
    one = manifest.recorded(line)
    if one.entry.path != manifest.ROOT and not manifest.is_safe(one.entry.path):
        raise Damaged(f"the manifest has an invalid entry: {one.entry.path[:200]!r}")
    return one


def _differences(before: Recorded, after: Recorded) -> tuple[str, ...]:
    one, other = before.entry, after.entry
    if one.kind != other.kind:
        return ("type",)
    is_other = (one.link, one.rdev) != (other.link, other.rdev) if one.kind != b"f" else _is_other(before, after)
    found = {
        "content": is_other,
        "mode": one.kind != b"l" and one.mode != other.mode,
        "owner": (one.uid, one.gid) != (other.uid, other.gid),
        "time": one.kind != b"d" and not is_other and one.mtime != other.mtime,
    }
    what = tuple(name for name, differs in found.items() if differs)
    return what or (("change time",) if _was_touched(one, other) else ())


def _is_other(before: Recorded, after: Recorded) -> bool:
    if before.hash and after.hash:
        return before.hash != after.hash
    return before.entry != after.entry or before.flag.lower() != SETTLED or after.flag.lower() != SETTLED


def _was_touched(one: Entry, other: Entry) -> bool:
    """The same inode, with nothing to see but that something was done to it: an ACL or an extended attribute, mostly.

    A folder is touched by whatever is done in it, and a file by a link more or less.
    """
    return one.kind != b"d" and one.inode == other.inode and one.nlink == other.nlink and one.ctime != other.ctime


def _keyed(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    last: bytes | None = None
    for line in lines:
        try:
            key = order(path_of(split(line)[1]))
        except IndexError:
            raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None
        if last is not None and key <= last:
            raise Damaged(f"the manifest has an invalid entry: {line[:200]!r}")
        last = key
        yield key, line
