"""A manifest held against a tree, entry by entry, both in merge order: never a list of all files.

Pure but for the walk that the caller brings. The same comparison serves verify (a copy), the check after a restore and
what an in-place restore deletes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from drbdbackup import manifest
from drbdbackup.errors import Damaged
from drbdbackup.manifest import CHANGED, ROOT, SETTLE_NS, Entry, Recorded, is_safe, order
from drbdbackup.targets.abilities import Abilities

KINDS = {
    b"f": "file", b"d": "folder", b"l": "symlink", b"p": "FIFO", b"s": "socket", b"c": "character device",
    b"b": "block device",
}  # fmt: skip


def recorded_below(lines: Iterable[bytes], top: bytes) -> Iterator[Recorded]:
    """The manifest's entries at and below `top` (all of them for b""), checked to be in order and to stay inside.

    Raises Damaged for a manifest that would lead elsewhere.
    """
    last = None
    for line in lines:
        one = manifest.recorded(line)
        path = one.entry.path
        key = order(path)
        if (path != ROOT and not is_safe(path)) or (last is not None and key <= last):
            raise Damaged(f"the manifest has an entry that makes no sense: {path[:200]!r}")
        last = key
        if not top or path == top or path.startswith(top + b"/"):
            yield one


def paired(
    recorded: Iterable[Recorded], found: Iterable[Entry]
) -> Iterator[tuple[Recorded | None, Entry | None]]:
    """Both streams side by side: each path once, with None where it is missing."""
    left, right = iter(recorded), iter(found)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        mine = order(one.entry.path) if one is not None else None
        theirs = order(other.path) if other is not None else None
        if mine is not None and mine == theirs:
            yield one, other
            one, other = next(left, None), next(right, None)
        elif theirs is None or (mine is not None and mine < theirs):
            yield one, None
            one = next(left, None)
        else:
            yield None, other
            other = next(right, None)


def holdable(can: Abilities) -> bytes:
    """The types of entries that have a place in a copy on such a medium; the others are in the manifest only."""
    kinds = b"fd" + (b"l" if can.symlinks else b"") + (b"bc" if can.devices else b"")
    return kinds + (b"ps" if can.fifo else b"")


def is_aside(one: Recorded) -> bool:
    """Whether the medium had no place for an entry of this name: what there is of it lies aside (see `aside`)."""
    return one.flag.isupper()


def shape(one: Recorded, there: Entry) -> str:
    """How type, size, link target or device number differ; "" if they do not."""
    was = one.entry
    if was.kind != there.kind:
        return f"is a {KINDS[there.kind]}, not a {KINDS[was.kind]}"
    if was.kind == b"f" and one.flag.lower() != CHANGED and was.size != there.size:
        return f"has {there.size} bytes, not {was.size}"
    if was.kind == b"l" and one.flag.lower() != CHANGED and was.link != there.link:
        return f"leads to {os.fsdecode(there.link)!r}, not to {os.fsdecode(was.link)!r}"
    if was.kind in b"bc" and was.rdev != there.rdev:
        return f"is device {there.rdev}, not {was.rdev}"
    return ""


def metadata(one: Recorded, there: Entry, can: Abilities) -> str:
    """How owner, mode or time differ, as far as the medium holds them; "" if they do not.

    A folder's own are left out, and those of an entry that changed under its copy: the walk saw it before. Where owners
    are not held, files are made readable for us, so their modes are not what they were either.
    """
    was = one.entry
    if one.flag.lower() == CHANGED or was.kind == b"d":
        return ""
    if can.owners and (was.uid, was.gid) != (there.uid, there.gid):
        return f"belongs to {there.uid}:{there.gid}, not {was.uid}:{was.gid}"
    if can.modes and can.owners and was.kind != b"l" and was.mode != there.mode:
        return f"has mode {there.mode:04o}, not {was.mode:04o}"
    if was.kind == b"f" and abs(was.mtime - there.mtime) > (0 if can.nanoseconds else SETTLE_NS):
        return "has another modification time"
    return ""
