"""blkid(8): which file system a block device or an image file holds, read from the medium itself, never from a cache.

Source: blkid(8), "--probe"; exit status 2 means that nothing was recognized, 8 that it is ambivalent.
"""

from __future__ import annotations

import re

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.errors import TargetError
from drbdbackup.proc import Command

NOTHING, AMBIVALENT = 2, 8
_TAGS = ("UUID", "TYPE", "PTTYPE")
_ESCAPED = re.compile(r"\\(.)")


class Filesystem(Struct, frozen=True):
    """What a medium holds: `uuid` as the file system has it (short for FAT), `type` as mount(8) calls it."""

    uuid: str
    type: str


def filesystem(device: str) -> Filesystem:
    """The file system on a block device or in an image file.

    Raises TargetError if there is none that is recognized, or several; ToolError if blkid failed.
    """
    tags = [word for tag in _TAGS for word in ("--match-tag", tag)]
    argv = ("blkid", "--probe", "--output", "export", *tags, device)
    answer = proc.run(Command(argv=argv, ok=frozenset({0, NOTHING, AMBIVALENT})))
    found = parse(answer.text)
    if answer.exit == AMBIVALENT:
        raise TargetError(f"{device} holds several file systems", f"Look at it with `wipefs {device}`.")
    if found is None and _fields(answer.text).get("PTTYPE"):
        hint = "Name one of them, such as /dev/sdb1: `lsblk -f` shows them, and what is on them."
        raise TargetError(f"{device} is divided into partitions", hint)
    if found is None:
        hint = (
            f"Is it the right one? Look with `lsblk -f`. If it held copies, try `e2fsck -n {device}`; only a new disk "
            f"needs `mkfs.ext4 {device}`, which destroys what is on it."
        )
        raise TargetError(f"{device} holds no file system", hint)
    return found


def parse(text: str) -> Filesystem | None:
    """The file system that `--output export` names; None if it names none."""
    fields = _fields(text)
    if not fields.get("TYPE"):
        return None
    uuid, kind = (_ESCAPED.sub(r"\1", fields.get(tag, "")) for tag in ("UUID", "TYPE"))
    return Filesystem(uuid, kind)


def _fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
