"""The kernel's mount table, read from /proc/self/mountinfo: what is mounted where, without touching any of it.

Nothing here may stat a path: `mountpoint`, `os.path.ismount` and `findmnt -M` hang on a dead NFS server. A line that
is not understood is an error, because a wrong answer would let a backup land on the root disk.
Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from drbdbackup.errors import NO_PROC, MountTableUnreadable, hint_for
from drbdbackup.model.mount import Mount

AUTOFS = "autofs"
_TABLE = "/proc/self/mountinfo"
_FDINFO = 4096  # bytes; the number stands in its first lines
# Super options end a line: they are not kept, but a line without them was cut off.
_LINE = re.compile(
    r"(\d{1,10}) (\d{1,10}) (\d{1,10}:\d{1,10}) ([^ ]+) (/[^ ]*) ([^ ]+)((?: [^ ]+)*?) - ([^ ]+) ([^ ]*) .+\Z", re.ASCII
)
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")


def table() -> tuple[Mount, ...]:
    """The mount table of this process (of its cage, if it is in one), in the kernel's order.

    Raises MountTableUnreadable.
    """
    with opened() as lines:
        return reread(lines)


def reread(lines: BinaryIO) -> tuple[Mount, ...]:
    """The mount table as it is now, from what `opened` returned. Raises MountTableUnreadable."""
    lines.seek(0)
    return parse(os.fsdecode(lines.read()))


def opened() -> BinaryIO:
    """The table itself: poll(2) tells when it changes, and read from its begin it is what it is by then.

    Raises MountTableUnreadable.
    """
    try:
        return open(_TABLE, "rb", buffering=0)
    except OSError as error:
        hint = hint_for(error.errno) or NO_PROC
        raise MountTableUnreadable(f"{_TABLE} cannot be read: {error.strerror}", hint) from None


def parse(text: str) -> tuple[Mount, ...]:
    """The mounts that a mountinfo file lists; undecodable bytes are surrogates in it and in the values.

    Raises MountTableUnreadable for any line that is not one of mountinfo.
    """
    # Not splitlines(): a folder's name may hold any of the other characters that it splits at.
    return tuple(_mount(line) for line in text.split("\n") if line)


def mounted_at(mounts: Iterable[Mount], point: str) -> Mount | None:
    """The mount that one sees at `point`, an absolute path without symlinks; None if there is none.

    The topmost of several wins, a mount that another one above hides does not count, and an autofs trigger is not
    yet a mount.
    """
    wanted = os.path.normpath(point)
    found = _seen_at(tuple(mounts), wanted)
    if found is None or found.point != wanted or found.fstype == AUTOFS:
        return None
    return found


def below(mounts: Iterable[Mount], point: str) -> tuple[Mount, ...]:
    """Every mount strictly below `point`, autofs triggers too, in the kernel's order."""
    prefix = os.path.join(os.path.normpath(point), "")
    return tuple(mount for mount in mounts if mount.point.startswith(prefix) and mount.point != prefix)


def mount_id_of(fd: int) -> int:
    """The number of the mount that an open file or folder lies on, also when it has been unmounted lazily since.

    Asks the kernel about the descriptor only, so it cannot hang. Source: proc_pid_fdinfo(5).
    """
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)  # asked for each folder of a tree: no more
    try:
        return int(os.read(info, _FDINFO).partition(b"mnt_id:")[2].split(b"\n", 1)[0])
    finally:
        os.close(info)


def _seen_at(mounts: tuple[Mount, ...], point: str) -> Mount | None:
    """The mount that a path walk ends in: component by component, always on to what is mounted on top."""
    known = {mount.mount_id for mount in mounts}
    by_point: dict[str, list[Mount]] = {}
    for mount in mounts:
        by_point.setdefault(mount.point, []).append(mount)
    seen: Mount | None = None
    for prefix in _prefixes(point):
        here = by_point.get(prefix, [])
        # Not in the order of the table: a mount that was moved on top of a younger one stands before it.
        while onto := next((mount for mount in here if _is_on(mount, seen, known)), None):
            here.remove(onto)
            seen = onto
    return seen


def _is_on(mount: Mount, seen: Mount | None, known: set[int]) -> bool:
    """Whether `mount` lies on `seen`; one whose parent is not shown (the root of a container) lies on anything."""
    is_root = mount.parent_id == mount.mount_id or mount.parent_id not in known
    return is_root or (seen is not None and mount.parent_id == seen.mount_id)


def _prefixes(point: str) -> Iterator[str]:
    """`/`, `/srv`, `/srv/raid` for `/srv/raid`."""
    yield "/"
    ends = [index for index, letter in enumerate(point) if letter == "/" and index]
    yield from (point[:end] for end in ends)
    if point != "/":
        yield point


def _mount(line: str) -> Mount:
    found = _LINE.match(line)
    if found is None:
        raise MountTableUnreadable(
            f"{_TABLE} has an invalid line: {line!r}", "Please report it, with the output of `uname -r`."
        )
    mount_id, parent_id, device, root, point, options, optional, fstype, source = found.groups()
    return Mount(
        mount_id=int(mount_id), parent_id=int(parent_id), device=device, root=_unescape(root), point=_unescape(point),
        fstype=_unescape(fstype), source=_unescape(source), options=tuple(options.split(",")),
        propagation=tuple(optional.split(" ")[1:]),
    )  # fmt: skip


def _unescape(field: str) -> str:
    """The kernel writes space, tab, newline, backslash and # as a backslash and three octal digits."""
    if "\\" not in field:
        return field
    encoded = field.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), encoded).decode("utf-8", "surrogateescape")
