"""Who keeps a loop device that was let go of: the kernel frees it when the last process has lost sight of its mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HANGS = ("fuse", "nfs")  # tests stop the servers of such


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
    found = ((int(process.name), tuple(_why(process, numbers))) for process in Path("/proc").glob("[0-9]*"))
    return [Holder(pid, _command(pid), why) for pid, why in found if why]


def _number(device: Path, images: list[str]) -> str:
    with suppress(OSError):
        if (device / "loop/backing_file").read_text().rstrip("\n") in images:
            return (device / "dev").read_text().strip()
    return ""


def _why(process: Path, numbers: set[str]) -> Iterator[str]:
    with suppress(OSError):  # it has ended
        slow = set()
        for line in (process / "mountinfo").read_text().splitlines():
            seen, _, fstype = line.partition(" - ")
            number, _, device, _, point, *_ = seen.split()
            if fstype.startswith(HANGS):
                slow.add(number)
            if device in numbers:
                yield f"mount {point}"
        devices = {os.makedev(*map(int, number.split(":"))) for number in numbers}
        for used in (process / "fd").iterdir():
            with suppress(OSError):
                _, _, number = (process / "fdinfo" / used.name).read_text().partition("mnt_id:")
                if number.split()[0] not in slow and devices & {used.stat().st_dev, used.stat().st_rdev}:
                    yield f"{used.name} -> {used.readlink()}"


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return "?"
