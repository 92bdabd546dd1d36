"""A manifest held against a tree, entry by entry, both in merge order: never a list of all files.

Pure but for the walk that the caller brings. The same comparison serves verify (a copy), the check after a restore and
what an in-place restore deletes.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.manifest import (
    CHANGED,
    NO_ATTRIBUTES,
    ROOT,
    SETTLE_NS,
    Entry,
    KnownAttributes,
    Recorded,
    escape,
    is_odd_time,
    is_safe,
    known_attributes,
    lacks_of,
    order,
)
from drbdbackup.pipeline.files.metadata import PRIVILEGED, is_acl, own
from drbdbackup.targets.abilities import Abilities

_GROWN = 16 << 30  # bytes; to read holes of this size takes rsync a minute
ODD_TIME = "has another modification time: its own cannot be held there"
KINDS = {
    b"f": "file", b"d": "folder", b"l": "symlink", b"p": "FIFO", b"s": "socket", b"c": "character device",
    b"b": "block device",
}  # fmt: skip


def recorded_below(lines: Iterable[bytes], top: bytes, above: Container[bytes] = ()) -> Iterator[Recorded]:
    """The manifest's entries at and below `top` (all of them for b""), checked to be in order and to stay inside.

    `above` are folders above it that are wanted, too. Raises Damaged for a manifest that would lead elsewhere.
    """
    last = None
    for line in lines_below(lines, top) if top else lines:
        one = manifest.recorded(line)
        path = one.entry.path
        key = order(path)
        if (path != ROOT and not is_safe(path)) or (last is not None and key <= last):
            raise Damaged(f"the manifest has an invalid entry: {path[:200]!r}")
        last = key
        if not top or is_below(path, top) or path in above:
            yield one


def lines_below(lines: Iterable[bytes], top: bytes) -> Iterator[bytes]:
    """The lines of the entries at and below `top`, and of what is above it (perhaps of some others, too).

    They are found without a look at what else is in a line, and nothing behind them is read: those below stand
    together.
    """
    named = b" " + escape(top)
    above = tuple(b" %s\n" % escape(path) for path in folders_above(top))
    links = tuple(b" %s\t" % escape(path) for path in folders_above(top))
    is_there = False
    for line in lines:
        if named in line and is_below(manifest.path_in(line), top):
            is_there = True
            yield line
        elif is_there:
            return
        elif line.endswith(above) or (b"\t" in line and any(link in line for link in links)):
            yield line


def is_below(path: bytes, top: bytes) -> bool:
    """Whether an entry is the one at `top`, or lies in it."""
    return path.startswith(top) and path[len(top) : len(top) + 1] in b"/"


def folders_above(top: bytes) -> frozenset[bytes]:
    """The paths of the folders that an entry lies in, without the root."""
    return frozenset(top[:end] for end, byte in enumerate(top) if byte == ord("/"))


def paired(
    recorded: Iterable[Recorded], found: Iterable[Entry]
) -> Iterator[tuple[Recorded | None, Entry | None]]:
    """Both streams side by side: each path once, with None where it is missing."""
    left, right = iter(recorded), iter(found)
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        if one.entry.path == other.path:
            yield one, other
            one, other = next(left, None), next(right, None)
        elif order(one.entry.path) < order(other.path):
            yield one, None
            one = next(left, None)
        else:
            yield None, other
            other = next(right, None)
    while one is not None:
        yield one, None
        one = next(left, None)
    while other is not None:
        yield None, other
        other = next(right, None)


def is_aside(one: Recorded) -> bool:
    """Whether the medium had no place for an entry of this name: what there is of it lies aside (see `set_aside`)."""
    return one.flag.isupper()


def shape(one: Recorded, there: Entry) -> str:
    """How type, size, link target or device number differ; "" if they do not."""
    was = one.entry
    if was.kind != there.kind:
        return f"is a {KINDS[there.kind]}, not a {KINDS[was.kind]}"
    if was.kind == b"f" and (why := wrong_size(one, there.size)):
        return why
    if was.kind == b"l" and one.flag.lower() != CHANGED and was.link != there.link:
        return f"leads to {os.fsdecode(there.link)!r}, not to {os.fsdecode(was.link)!r}"
    if was.kind in b"bc" and was.rdev != there.rdev:
        return f"is device {there.rdev}, not {was.rdev}"
    return ""


def wrong_size(one: Recorded, size: int) -> str:
    """What is wrong with the size of a file; "" if nothing is. What has another one is not worth reading."""
    if one.flag.lower() != CHANGED:
        return f"has {size} bytes, not {one.entry.size}" if size != one.entry.size else ""
    if size <= largest(one):
        return ""
    return f"has {size} bytes, which cannot be right: it had {one.entry.size} shortly before"


def largest(one: Recorded) -> int:
    """How many bytes a file in a copy may have. The size that it has is not known of one that changed meanwhile."""
    return one.entry.size if one.flag.lower() != CHANGED else grown(one.entry.size)


def inode_and_hash(one: Recorded) -> tuple[int, str]:
    """What the names of one file have in common. One that changed, or was exchanged, while it was backed up may have
    another content under each name, and the manifest says of all of them which inode the walk saw.
    """
    return one.entry.inode, one.hash


def expected_size(one: Recorded) -> int:
    """How many bytes a file in a copy has, hardly ever more: what room it needs."""
    return one.entry.size if one.flag.lower() != CHANGED else 2 * one.entry.size


def grown(size: int) -> int:
    """How many bytes a file may have that is copied shortly after it had `size`."""
    return 2 * size + _GROWN


def odd_time(one: Recorded, there: Entry) -> str:
    """How a time that not every file system can hold has become another one; "" if it has not."""
    if one.flag.lower() == CHANGED or not is_odd_time(one.entry.mtime):
        return ""
    apart = abs(one.entry.mtime - there.mtime)
    return ODD_TIME if apart > SETTLE_NS else ""


def metadata(one: Recorded, there: Entry, can: Abilities) -> str:
    """How owner, mode or time differ, as far as the medium holds them; "" if they do not.

    A folder's time is left out, its owner and mode where an older version made the line; and those of an entry that
    changed under its copy: the walk saw it before. Where owners are not held, files are made readable for us, so their
    modes are not what they were either.
    """
    was = one.entry
    if one.flag.lower() == CHANGED or (was.kind == b"d" and not one.attributes):
        return ""
    lacks = lacks_of(one.attributes)
    if can.owners and "owner" not in lacks and (was.uid, was.gid) != (there.uid, there.gid):
        return f"belongs to {there.uid}:{there.gid}, not {was.uid}:{was.gid}"
    if can.modes and can.owners and not lacks & {"owner", "mode"} and was.kind != b"l" and was.mode != there.mode:
        return f"has mode {there.mode:04o}, not {was.mode:04o}"
    apart = 0 if can.nanoseconds else SETTLE_NS
    if was.kind == b"f" and "times" not in lacks and abs(was.mtime - there.mtime) > apart:
        return "has another modification time"
    return ""


def attributes_then(one: Recorded, can: Abilities) -> KnownAttributes | None:
    """The extended attributes that an entry had; None where nobody noted them, because its medium has them.

    Raises Damaged for a manifest that says nonsense.
    """
    known = known_attributes(one.attributes)
    return NO_ATTRIBUTES if known is None and not (can.acls and can.xattrs) else known


def attributes_to_tell(one: Recorded, there: Mapping[str, bytes], can: Abilities, *, is_own: bool) -> str:
    """What of an entry's attributes on its medium is not restored from it; "" for none. Raises Damaged.

    `is_own`: nobody but root of this node writes to it, so what older versions did not note is as it lies there.
    """
    if one.flag.lower() == CHANGED:
        return ""
    if attributes_then(one, can) is None and not is_own:
        left = sorted(filter(is_privileged, there))
        return f"has privileged attributes that are not in its manifest: {', '.join(left)}" if left else ""
    return attributes_differ(one, there, can)


def is_privileged(name: str) -> bool:
    """Whether only root may give an attribute of this name to an entry."""
    return name.startswith(PRIVILEGED)


def attributes_differ(one: Recorded, there: Mapping[str, bytes], can: Abilities) -> str:
    """How extended attributes differ, as far as the medium holds them and they are known; "" if they do not.

    `there` are those that count (see `own`). Raises Damaged as `attributes_then`.
    """
    known = known_attributes(one.attributes)
    if known is None or (known is NO_ATTRIBUTES and not there):
        return ""
    held = {name: value for name, value in there.items() if (can.acls if is_acl(name) else can.xattrs)}
    names = own(known.values).keys() | known.digests.keys()
    if added := sorted(held.keys() - names):
        return f"has attributes that were not backed up: {', '.join(added)}"
    if other := sorted(name for name, value in held.items() if not known.are(name, value)):
        return f"has other attributes than were backed up: {', '.join(other)}"
    expected = names if "attributes" not in lacks_of(one.attributes) else ()
    if gone := sorted(name for name in expected if name not in held and (can.acls if is_acl(name) else can.xattrs)):
        return f"has lost attributes: {', '.join(gone)}"
    return ""
