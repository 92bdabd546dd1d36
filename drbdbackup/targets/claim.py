"""Marks of disks that are mounted without a cage around them: whether one is in use, and what a killed run has left.

The mark is a file in the state folder, locked while its maker lives. It says what was mounted there before, so that
only what has come since is ever unmounted; a mark of another boot or another namespace says nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from drbdbackup import plain_file
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import TargetInUse
from drbdbackup.model.mount import Mount
from drbdbackup.targets import device
from drbdbackup.temporary_mounts import detach
from drbdbackup.tools import mounts


@contextmanager
def claimed(config: TargetConfig, marks: str) -> Iterator[None]:
    """Have the disk for ourselves for the time of the block; what a killed run has left there is unmounted first.

    Raises TargetError if another process has it.
    """
    with _locked(config, marks) as fd:
        _clear(fd)
        before = _ids(mounts.table(), config.mountpoint)
        _write(fd, {"point": config.mountpoint, "device": config.device, "before": before, **_here()})
        try:
            yield
        finally:
            if leftover(_read(fd), mounts.table()) is None:
                _write(fd, {})


def clear(config: TargetConfig, marks: str) -> bool:
    """Unmount what a killed run has left; whether there was something. Raises TargetError."""
    with _locked(config, marks) as fd:
        return _clear(fd)


def leftover(mark: Mapping[str, Any], table: Iterable[Mount]) -> Mount | None:
    """The mount that the maker of a mark with this content has left in this mount table."""
    point, path, before = mark.get("point"), mark.get("device"), mark.get("before")
    if not (isinstance(point, str) and isinstance(path, str) and isinstance(before, list)) or _is_elsewhere(mark):
        return None
    seen = mounts.mounted_at(table, os.path.realpath(point))
    return seen if seen is not None and seen.mount_id not in before and device.shows(seen, path) else None


def _is_elsewhere(mark: Mapping[str, Any]) -> bool:
    return any(mark.get(key) != value for key, value in _here().items())


def _clear(fd: int) -> bool:
    found = False
    while left := leftover(_read(fd), mounts.table()):
        detach(left.point)
        found = True
    _write(fd, {})
    return found


def _ids(table: Iterable[Mount], point: str) -> list[int]:
    real = os.path.realpath(point)
    return [mount.mount_id for mount in table if mount.point == real]


def _here() -> dict[str, str]:
    """What a mount table is valid for: this boot and this namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
        return {"boot": boot.read().strip(), "namespace": os.readlink("/proc/self/ns/mnt")}


@contextmanager
def _locked(config: TargetConfig, marks: str) -> Iterator[int]:
    os.makedirs(marks, 0o700, exist_ok=True)
    path = os.path.join(marks, f"mounted-{config.name}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, config, path)
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, config: TargetConfig, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hint = f"Wait for it to end; `fuser -v {path}` says who it is."
        raise TargetInUse(f"{config.device} is in use by another drbdbackup", hint) from None


def _read(fd: int) -> dict[str, Any]:
    """The mark's content; nothing if it is torn: its maker died before it mounted."""
    return plain_file.json_object(os.pread(fd, 1 << 16, 0)) or {}


def _write(fd: int, mark: dict[str, Any]) -> None:
    data = json.dumps(mark).encode()
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    os.fsync(fd)
