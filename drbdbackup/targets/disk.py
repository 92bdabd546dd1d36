"""A disk of this node that is mounted around its use, and nowhere to be seen for the rest of the time.

The folder that it is mounted at is never written to, another disk's mount there is never touched, and no mount of ours
outlives the block: in a cage the kernel sees to that, elsewhere a mark and `clear`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import Damaged, TargetError, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.stages import covered, mounted
from drbdbackup.targets import claim, device, layout, mark
from drbdbackup.targets.medium import Medium
from drbdbackup.tools import blkid, mount, mounts
from drbdbackup.tools.blkid import Filesystem

_OPTIONS = ("nodev", "nosuid", "noexec", "noatime")


class Disk:
    """The target of kind "disk"."""

    def __init__(self, config: TargetConfig, marks: str | None = None) -> None:
        """`marks` is a folder for marks, where a mount would outlive us (see `claim`)."""
        self.config = config
        self._marks = marks

    @contextmanager
    def opened(self, node: str, write: bool) -> Iterator[Medium]:
        """The disk, mounted for the time of the block; read-only without `write`."""
        path, point = self.config.device, self.config.mountpoint
        filesystem = device.filesystem(path)
        _make_mountpoint(point)
        with ExitStack() as stack:
            if self._marks is not None:
                stack.enter_context(claim.claimed(self.config, self._marks))
            there = _mount_at(point)
            _refuse_foreign(there, path, point)
            stack.enter_context(_mounted(path, point, write, again=there is not None))
            _check(filesystem, path, point, write)
            yield _medium(self.config, node, filesystem)
            if write:
                layout.sync(point)  # where a write has failed, this says so; umount does not


def clear(config: TargetConfig, marks: str) -> bool:
    """Unmount what a killed run has left mounted, by its mark in `marks`; whether there was something.

    Raises TargetError if it cannot be unmounted, or if a run is using it.
    """
    return claim.clear(config, marks)


def _make_mountpoint(point: str) -> None:
    try:
        os.makedirs(point, 0o700, exist_ok=True)
        if os.path.islink(point):
            raise TargetError(f"{point} is a symlink", "Give the folder itself as mountpoint.")
    except OSError as error:
        raise TargetError(f"{point} cannot be a mountpoint: {error.strerror}", "It must be a folder.") from None


def _refuse_foreign(seen: Mount | None, path: str, point: str) -> None:
    """The same disk, mounted there by the admin, is no harm: ours goes on top of it."""
    if seen is not None and not device.shows(seen, path):
        hint = f"Unmount it (`umount {point}`), or choose another mountpoint."
        raise TargetError(f"{seen.source} is mounted at {point}, not {path}", hint)


@contextmanager
def _mounted(path: str, point: str, write: bool, again: bool) -> Iterator[None]:
    """Mount it as `write` says; `again` over itself. Raises TargetError."""
    with ExitStack() as stack:
        try:
            if again:
                stack.enter_context(covered(point, ("rw" if write else "ro", *_OPTIONS)))
            elif write:
                stack.enter_context(mounted(path, point, ("rw", *_OPTIONS)))
            else:
                _mount_read_only(stack, path, point)
        except ToolError as error:
            hint = f"Look at dmesg; while it is not mounted, `fsck -n {path}` says whether the file system is well."
            raise TargetError(f"{path} could not be mounted at {point}: {error.message}", hint) from None
        yield


def _mount_read_only(stack: ExitStack, path: str, point: str) -> None:
    """Only our own mount is read-only; the file system as a whole is where it cannot be mounted otherwise.

    Whoever mounts a file system first decides for all: a run that comes while a peer reads must be able to write. An
    image file with a journal to be replayed (a power cut) cannot be mounted read-only either.
    """
    try:
        stack.enter_context(mounted(path, point, ("rw", *_OPTIONS)))
    except ToolError:
        stack.enter_context(mounted(path, point, ("ro", *_OPTIONS)))
    else:
        mount.remount_read_only(point)


def _check(filesystem: Filesystem, path: str, point: str, write: bool) -> None:
    """What is mounted there now is what was looked at before, and not the bare folder."""
    seen = _mount_at(point)
    if seen is None or not device.shows(seen, path) or blkid.filesystem(seen.source) != filesystem:
        raise TargetError(f"{path} is not what is mounted at {point}", "Was a disk exchanged? Look with `lsblk -f`.")
    if write and os.statvfs(point).f_flag & os.ST_RDONLY:
        raise TargetError(f"{path} is write-protected or mounted read-only", "Look at dmesg and at the disk's switch.")


def _mount_at(point: str) -> Mount | None:
    return mounts.mounted_at(mounts.table(), os.path.realpath(point))


def _medium(config: TargetConfig, node: str, filesystem: Filesystem) -> Medium:
    identity, problem = None, ""
    try:
        identity = mark.read(config.mountpoint)
    except Damaged as error:
        problem = error.message
    return Medium(
        config.mountpoint, config, identity, filesystem.uuid, filesystem.type, f"{node}:{config.device}", node, problem
    )
