"""Who has files open on a volume, as fuser(1) shows it, from /proc: a look that may hang, for a probe.

It sees every process of this machine, whatever namespace it lives in, where the volume is a file system of its own;
where it is a plain folder (demo, tests), and for what is no open file, names must do. A file that is mapped and closed
is not seen, nor is a client of an NFS server in the kernel.

No file that others have open is ever touched: one on a dead share would hang, and what is on the volume is known by the
number of its mount. A path alone proves nothing: in namespaces of his own any user has files of every path. Names of
processes, lines of fdinfo and how many files are open are what other users choose. Source: proc_pid_fd(5),
proc_pid_fdinfo(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from msgspec import Struct, to_builtins

from drbdbackup.errors import VolumeInUse
from drbdbackup.model.mount import Mount
from drbdbackup.tools import mounts

PATIENCE = 20.0  # seconds for the files of all processes: one of them may have millions
_MANY = 5000  # files; a process with more is looked at after all others
_NAMED = 3  # in an error
_DELETED = " (deleted)"
_INFO = 4096  # bytes; what is looked for stands in the first lines
_FLAGS_AND_MOUNT = re.compile(rb"^flags:\s*([0-7]+)\nmnt_id:\s*(\d+)$", re.MULTILINE)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Opener(Struct, frozen=True):
    """A process that uses the volume: one of the paths that it has open there, and whether it may write to one."""

    pid: int
    name: str
    path: str
    writes: bool

    def __str__(self) -> str:
        """As people read it, on one line whatever it is called."""
        return f"{self.name} (process {self.pid}, {self.path})".replace("\n", "\\n")


class _ManyFiles(Struct, frozen=True):
    """A process that has many files open."""

    files: int
    pid: int


def look(source: str, below: str, own: int, patience: float = PATIENCE) -> list[dict[str, Any]]:
    """The processes but `own` that have something open at or below `source`/`below`, as documents (see `opener`).

    Raises VolumeInUse for those that have more files open than can be looked at in `patience` seconds.
    """
    until = time.monotonic() + patience
    table = mounts.table()
    top = os.path.join(os.path.realpath(source), below).rstrip("/")
    volume = _Volume(mounts.mounted_at(table, source), table, top, is_whole=not below)
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (own, os.getpid()))
    found, waiting, unseen = list[Opener](), list[_ManyFiles](), list[_ManyFiles]()
    for pid in pids:
        if (files := _open_files(pid)) > _MANY:
            waiting.append(_ManyFiles(files, pid))
        else:
            found += _openers(pid, volume)
    for one in sorted(waiting, key=lambda one: one.files):
        try:
            found += _openers(one.pid, volume, until)
        except TimeoutError:
            unseen.append(one)
    if unseen:
        raise _too_many(source, unseen, patience)
    return [to_builtins(one) for one in sorted(found, key=lambda one: one.pid)]


def opener(document: dict[str, Any]) -> Opener:
    """The inverse of `asdict`."""
    return Opener(**document)


class _Volume:
    """Where it is: the path `top`, and its mounts by the namespaces that they are in, if it is a file system."""

    def __init__(self, seen: Mount | None, table: tuple[Mount, ...], top: str, *, is_whole: bool) -> None:
        """`seen` is its mount; not `is_whole`: only what is at or below `top` counts."""
        self._device = seen.device if seen is not None else ""
        self._here = frozenset(one.mount_id for one in table if one.device == self._device)
        self._known: dict[tuple[str, str], frozenset[int]] = {}
        self._top = top
        self._is_whole = is_whole

    def is_below(self, path: str) -> bool:
        """Whether that is where the path leads, in this namespace."""
        return path == self._top or path.startswith(f"{self._top}/")

    def has(self, path: str, mount: int, process: str) -> bool:
        """Whether a file that is open is on it: `mount` is the number of its mount, which nobody can choose."""
        if not self._device:
            return self.is_below(path)
        if not self._is_whole and not self.is_below(path):
            return False
        return mount in self._here or mount in self._there(process)

    def _there(self, process: str) -> frozenset[int]:
        """Its mounts in the namespace of a process, which sees those below its root only. Raises OSError."""
        space = os.readlink(f"{process}/ns/mnt"), os.readlink(f"{process}/root")
        if space not in self._known:
            with open(f"{process}/mountinfo", "rb") as lines:
                words = [line.split(b" ", 3) for line in lines]
            self._known[space] = frozenset(int(word[0]) for word in words if os.fsdecode(word[2]) == self._device)
        return self._known[space]


def _open_files(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _openers(pid: int, volume: _Volume, until: float = float("inf")) -> list[Opener]:
    """The process, if it uses the volume; of its files one that it may write to is the one that is named.

    Raises TimeoutError.
    """
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        used = sorted(_used(f"/proc/{pid}", volume, until), key=lambda one: not one[1])[:1]
        if used:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                return [Opener(pid, comm.read().strip(), *used[0])]
    return []


def _used(process: str, volume: _Volume, until: float) -> Iterator[tuple[str, bool]]:
    """Each path on the volume with whether it is open for writing. What ends or closes meanwhile is not there."""
    for name in ("cwd", "root", "exe"):
        with suppress(OSError):
            path = os.readlink(f"{process}/{name}")
            if volume.is_below(path) and not path.endswith(_DELETED):
                yield path, False
    with _opened(f"{process}/fd") as links, _opened(f"{process}/fdinfo") as infos:
        for number, name in enumerate(os.listdir(links)):
            if not number % _MANY and time.monotonic() > until:
                raise TimeoutError
            with suppress(OSError):
                path = os.readlink(name, dir_fd=links)
                if path.startswith("/") and not path.endswith(_DELETED):
                    flags, mount = _flags_and_mount(infos, name)
                    if volume.has(path, mount, process):
                        yield path, flags & os.O_ACCMODE != os.O_RDONLY


@contextmanager
def _opened(path: str) -> Iterator[int]:
    folder = os.open(path, _FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def _flags_and_mount(infos: int, name: str) -> tuple[int, int]:
    """How a file was opened, and the number of its mount. What stands below may be of another user's making."""
    info = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=infos)
    try:
        found = _FLAGS_AND_MOUNT.search(os.read(info, _INFO))
    finally:
        os.close(info)
    return (int(found[1], 8), int(found[2])) if found else (os.O_RDONLY, -1)


def _too_many(source: str, unseen: list[_ManyFiles], patience: float) -> VolumeInUse:
    named = ", ".join(f"process {one.pid} ({one.files:,})" for one in unseen[:_NAMED])
    more = f" and {len(unseen) - _NAMED} more" if len(unseen) > _NAMED else ""
    message = f"whether {source} is in use could not be seen in {patience:g} s: {named}{more} have too many files open"
    return VolumeInUse(message, "Look with `ps` whose they are, and end them.")
