"""Who uses a volume, and who keeps a loop device: that goes when the last process has lost sight of its mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HANGS = ("fuse", "nfs")  # tests stop the servers of such


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of a process's mountinfo; `device` is "major:minor", and a look at what `hangs` may do so."""

    device: str
    point: str
    hangs: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and what it has of the device."""

    pid: int
    command: str
    why: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pid} {self.command}: {'; '.join(self.why)}"


def holders(images: list[str]) -> list[Holder]:
    """The processes that have one of these images' loop devices open, a file on it, or its mount in sight."""
    numbers = {number for device in Path("/sys/block").glob("loop*") if (number := _number(device, images))}
    devices = {os.makedev(*map(int, number.split(":"))) for number in numbers}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        seen = [f"mount {one.point}" for one in _mounts(process) if one.device in numbers]
        if why := (*seen, *_used(process, devices)):
            found.append(Holder(int(process.name), _command(process), why))
    return found


def users_of(volume: Path) -> list[int]:
    """Who has something open there, in whatever mount namespace (as fuser -m finds them)."""
    devices = {os.stat(volume).st_dev}
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if any(_used(process, devices))]


def _number(device: Path, images: list[str]) -> str:
    with suppress(OSError):
        if (device / "loop/backing_file").read_text().rstrip("\n") in images:
            return (device / "dev").read_text().strip()
    return ""


def _mounts(process: Path) -> list[Mount]:
    """What is mounted where that process is; nothing if it has ended."""
    found = []
    with suppress(OSError):
        for line in (process / "mountinfo").read_text().splitlines():
            seen, _, fstype = line.partition(" - ")
            _, _, device, _, point, *_ = seen.split()
            found.append(Mount(device, point, fstype.startswith(HANGS)))
    return found


def _used(process: Path, devices: set[int]) -> Iterator[str]:
    """What it has open of these devices, or is in; nothing of a share is looked at."""
    slow = [one for one in _mounts(process) if one.hangs]
    with suppress(OSError):
        for used in (process / "cwd", process / "root", *(process / "fd").iterdir()):
            with suppress(OSError):
                where = str(used.readlink())
                if any(where == one.point or where.startswith(f"{one.point}/") for one in slow):
                    continue
                seen = used.stat()
                if devices & {seen.st_dev, seen.st_rdev}:
                    yield f"{used.name} -> {where}"


def _command(process: Path) -> str:
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return "?"
