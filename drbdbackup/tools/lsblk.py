"""lsblk(8): the block devices of this node, what each holds, what uses it, and which of them show the same file system.

It asks udev, and so wakes no disk. Without udev it knows of no file system. Source: lsblk(8); `--list` names a device
once for each that it lies on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from drbdbackup import proc
from drbdbackup.errors import ToolError
from drbdbackup.proc import Command

_COLUMNS = "PATH,KNAME,PKNAME,TYPE,FSTYPE,UUID,SIZE,RO,MOUNTPOINTS"
_PART = "part"  # two partitions of one disk are two places; what else lies on a device is the same place


class BlockDevice(Struct, frozen=True, kw_only=True):
    """One device, and one that it lies on: `pkname`, None for a disk. `kname` is the kernel's name (dm-0), `type` is
    "disk", "part", "lvm" and so on, `fstype` and `uuid` are those of its file system, if one is known; `size` is in
    bytes. Of `mountpoints` each is None where it is not mounted.
    """

    path: str
    kname: str
    type: str
    pkname: str | None = None
    fstype: str | None = None
    uuid: str | None = None
    size: int = 0
    ro: bool = False
    mountpoints: tuple[str | None, ...] = ()


class _Output(Struct, frozen=True):
    blockdevices: list[BlockDevice]


def block_devices() -> list[BlockDevice]:
    """All that the kernel knows. Raises ToolError."""
    argv = ("lsblk", "--json", "--list", "--bytes", "--output", _COLUMNS)
    return parse(proc.run(Command(argv=argv, ok=frozenset({0, 32, 64}))).out)


def parse(output: bytes) -> list[BlockDevice]:
    """What lsblk prints as JSON. Raises ToolError where it is not understood."""
    try:
        return msgspec.json.decode(output, type=_Output).blockdevices
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ToolError(f"lsblk says what cannot be understood: {error}", "See `lsblk --json`.") from None


def unused(every: Sequence[BlockDevice]) -> list[BlockDevice]:
    """Those that can be written to, of which nothing is made and which are not mounted or swapped to; each once."""
    used = {one.pkname for one in every} | {one.kname for one in every if one.ro or any(one.mountpoints)}
    return list({one.kname: one for one in every if one.kname not in used}.values())


def clones(every: Sequence[BlockDevice], device: str, uuid: str) -> list[str]:
    """The other devices with that file system, which are not the same place by another name.

    The paths of a multipath device, or an LVM volume and its snapshot, are one place; so are, for btrfs, the devices
    that the kernel has taken for one mounted file system.
    """
    name = os.path.basename(os.path.realpath(device))
    same = _places(every, name) | _members(uuid)
    found = {one.path for one in every if uuid and one.uuid == uuid and one.kname not in same}
    return sorted(found) if any(one.kname == name for one in every) else []


def _places(every: Sequence[BlockDevice], name: str) -> set[str]:
    """The device, and all that it lies on or that lies on it, in any number of steps."""
    links = [(one.kname, one.pkname) for one in every if one.pkname and one.type != _PART]
    found, before = {name}, set[str]()
    while found != before:
        before = set(found)
        found |= {name for link in links if found & set(link) for name in link if name}
    return found


def _members(uuid: str) -> set[str]:
    try:
        return set(os.listdir(f"/sys/fs/btrfs/{uuid}/devices"))
    except OSError:
        return set()
