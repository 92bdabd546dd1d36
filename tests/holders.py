"""Who keeps a loop device that was let go of: the kernel frees it when the last process has lost sight of its mount.

Tests run side by side. A namespace that another one makes at the wrong moment takes our mounts along, and where `/` is
private it keeps them until its own end: that is nothing that the program has left behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, what it has of the device, and whether a test that runs beside this one has started it."""

    pid: int
    command: str
    why: tuple[str, ...]
    is_strange: bool

    def __str__(self) -> str:
        return f"{self.pid} ({'of another test' if self.is_strange else 'ours'}) {self.command}: {'; '.join(self.why)}"


def holders(images: list[str]) -> list[Holder]:
    """The processes that have one of these images' loop devices open, a file on it, or its mount in sight."""
    numbers = {number for device in Path("/sys/block").glob("loop*") if (number := _number(device, images))}
    found = ((int(process.name), tuple(_why(process, numbers))) for process in Path("/proc").glob("[0-9]*"))
    return [Holder(pid, _command(pid), why, _is_strange(pid)) for pid, why in found if why]


def _number(device: Path, images: list[str]) -> str:
    with suppress(OSError):
        if (device / "loop/backing_file").read_text().rstrip("\n") in images:
            return (device / "dev").read_text().strip()
    return ""


def _why(process: Path, numbers: set[str]) -> Iterator[str]:
    with suppress(OSError):  # it has ended
        for line in (process / "mountinfo").read_text().splitlines():
            _, _, number, _, point, *_ = line.split()
            if number in numbers:
                yield f"mount {point}"
        devices = {os.makedev(*map(int, number.split(":"))) for number in numbers}
        for used in (*(process / "fd").iterdir(), process / "cwd", process / "root"):
            with suppress(OSError):
                seen = used.stat() if _is_local(used) else None
                if seen and devices & {seen.st_dev, seen.st_rdev}:
                    yield f"{used.name} -> {used.readlink()}"


def _is_local(used: Path) -> bool:
    """Whether a look at it cannot hang: tests stop the servers of their shares."""
    return not str(used.readlink()).startswith(("socket:", "pipe:", "anon_inode:"))


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return "?"


def _is_strange(pid: int) -> bool:
    """Whether another worker of the same pytest is among its ancestors, and this one is not."""
    seen = set()
    while pid > 1:
        seen.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return os.getpid() not in seen and os.getppid() in seen and os.getppid() != 1
