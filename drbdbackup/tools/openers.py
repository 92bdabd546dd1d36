"""Who has files open on a volume, as fuser(1) shows it, from /proc: a look that may hang, for a probe.

It sees every process of this machine, whatever namespace it lives in, where the volume is a file system of its own;
where it is a plain folder (demo, tests), and for what is no open file, names must do. A file that is mapped and closed
is not seen, nor is a client of an NFS server in the kernel.

No file that others have open is ever touched: one on a dead share would hang, and what is on the volume is known by the
number of its mount. Source: proc_pid_fd(5), proc_pid_fdinfo(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from msgspec import Struct, to_builtins

from drbdbackup.tools import mounts

_DELETED = " (deleted)"


class Opener(Struct, frozen=True):
    """A process that uses the volume: one of the paths that it has open there, and whether it may write to one."""

    pid: int
    name: str
    path: str
    writes: bool

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.name} (process {self.pid}, {self.path})"


def look(source: str, below: str, own: int) -> list[dict[str, Any]]:
    """The processes but `own` that have something open at or below `source`/`below`, as documents (see `opener`)."""
    seen = mounts.mounted_at(mounts.table(), source)
    volume = _Volume(seen.device if seen is not None and not below else "")
    top = os.path.join(os.path.realpath(source), below).rstrip("/")
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (own, os.getpid()))
    return [to_builtins(found) for pid in pids if (found := _opener(pid, top, volume)) is not None]


def opener(document: dict[str, Any]) -> Opener:
    """The inverse of `asdict`."""
    return Opener(**document)


class _Volume:
    """The mounts of one file system, by the namespaces that they are in; `device` is as in `Mount`, "" for none."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._known: dict[str, frozenset[int]] = {}

    def mounts(self, process: str) -> frozenset[int]:
        """Their numbers in the namespace of a process. Raises OSError."""
        if not self._device:
            return frozenset()
        space = os.readlink(f"{process}/ns/mnt")
        if space not in self._known:
            with open(f"{process}/mountinfo", "rb") as lines:
                words = [line.split(b" ", 3) for line in lines]
            self._known[space] = frozenset(int(word[0]) for word in words if os.fsdecode(word[2]) == self._device)
        return self._known[space]


def _opener(pid: int, top: str, volume: _Volume) -> Opener | None:
    """The process, if it uses the volume; of its files one that it may write to is the one that is named."""
    with suppress(OSError):
        used = sorted(_used(f"/proc/{pid}", top, volume), key=lambda one: not one[1])
        if used:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                return Opener(pid, comm.read().strip(), *used[0])
    return None


def _used(process: str, top: str, volume: _Volume) -> Iterator[tuple[str, bool]]:
    """Each path on the volume with whether it is open for writing. What ends or closes meanwhile is not there."""
    links = [(f"{process}/{name}", "") for name in ("cwd", "root", "exe")]
    links += [(f"{process}/fd/{name}", f"{process}/fdinfo/{name}") for name in os.listdir(f"{process}/fd")]
    on = volume.mounts(process)
    for link, info in links:
        with suppress(OSError):
            path = os.readlink(link)
            is_there = path == top or path.startswith(f"{top}/")
            if path.endswith(_DELETED) or not path.startswith("/"):
                continue
            flags, mount = _flags_and_mount(info) if info else (os.O_RDONLY, -1)
            if is_there or mount in on:
                yield path, flags & os.O_ACCMODE != os.O_RDONLY


def _flags_and_mount(info: str) -> tuple[int, int]:
    """How a file was opened, and the number of the mount that it is on."""
    with open(info) as lines:
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["flags"], 8), int(fields["mnt_id"])
