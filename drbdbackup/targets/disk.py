"""A disk of this node that is mounted around its use, and nowhere to be seen for the rest of the time.

The folder that it is mounted at is never written to, another disk's mount there is never touched, and no mount of ours
outlives the block: in a cage the kernel sees to that, elsewhere a mark and `claim`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import Damaged, TargetCloned, TargetError, TargetReadOnly, ToolError
from drbdbackup.model.mount import Mount
from drbdbackup.targets import claim, device, layout, mark
from drbdbackup.targets.medium import Medium
from drbdbackup.temporary_mounts import covered, mounted
from drbdbackup.tools import blkid, mount, mounts
from drbdbackup.tools.blkid import Filesystem

_OPTIONS = ("nodev", "nosuid", "noexec", "noatime")


class DiskTarget:
    """The target of kind "disk"."""

    def __init__(self, config: TargetConfig, marks: str | None = None) -> None:
        """`marks` is a folder for marks, where a mount would outlive us (see `claim`)."""
        self.config = config
        self._marks = marks

    @contextmanager
    def opened(self, node: str, *, write: bool) -> Iterator[Medium]:
        """The disk, mounted for the time of the block; read-only without `write`."""
        path, point = self.config.device, self.config.mountpoint
        device.check(path)
        _make_mountpoint(point)
        with ExitStack() as stack:
            if self._marks is not None:
                stack.enter_context(claim.claimed(self.config, self._marks))
            there = _mount_at(point)
            _refuse_foreign(there, path, point)
            stack.enter_context(_mounted(path, point, write=write, again=there is not None))
            shown = _shown(path, point, write=write)
            if write:
                _refuse_clones(path, shown)
            yield _medium(self.config, node, shown)
            if write:
                layout.sync(point)  # where a write has failed, this says so; umount does not


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
def _mounted(path: str, point: str, *, write: bool, again: bool) -> Iterator[None]:
    """Mount it as `write` says; `again` over itself. Raises TargetError."""
    with ExitStack() as stack:
        try:
            if again:
                _attach(stack, lambda options: covered(point, options), "rw" if write else "ro")
            elif write:
                _attach(stack, lambda options: mounted(path, point, options), "rw")
            else:
                _mount_read_only(stack, path, point)
        except ToolError as error:
            with suppress(ToolError):
                blkid.filesystem(path)  # which says what is missing, where mount only says that it failed
            raise _refused(path, point, error.message) from None
        yield


def _refused(path: str, point: str, stderr: str) -> TargetError:
    """Why it cannot be mounted, as far as that can be told: only what nobody else uses is to be checked."""
    elsewhere = next((one for one in mounts.table() if device.shows(one, path)), None)
    if elsewhere is not None and "ro" in elsewhere.options:
        hint = f"`umount {elsewhere.point}`, or `mount -o remount,rw {elsewhere.point}`."
        return TargetReadOnly(f"{path} is mounted read-only at {elsewhere.point}", hint)
    if "busy" in stderr:
        return TargetError(f"{path} is in use by something else", f"See `lsblk {path}` and `fuser -vam {path}`.")
    if "permission denied" in stderr or "must be superuser" in stderr:
        return TargetError(f"{path} may not be mounted by us", "Mounting takes root and CAP_SYS_ADMIN: a container?")
    hint = f"Look at dmesg; while it is not mounted, check the file system with `fsck -n {path}`."
    return TargetError(f"{path} could not be mounted at {point}: {stderr}", hint)


def _mount_read_only(stack: ExitStack, path: str, point: str) -> None:
    """Only our own mount is read-only; the file system as a whole is where it cannot be mounted otherwise.

    Whoever mounts a file system first decides for all: a run that comes while a peer reads must be able to write. An
    image file with a journal to be replayed (a power cut) cannot be mounted read-only either.
    """
    how = lambda options: mounted(path, point, options)  # noqa: E731
    try:
        _attach(stack, how, "rw")
    except ToolError:
        _attach(stack, how, "ro")
    else:
        mount.remount_read_only(point)


def _attach(stack: ExitStack, how: Callable[[Sequence[str]], AbstractContextManager[str]], mode: str) -> None:
    """Mount so that no symlink is followed; without that where mount or Linux does not know it (before 5.10)."""
    try:
        stack.enter_context(how((mode, *_OPTIONS, "nosymfollow")))
    except ToolError:
        stack.enter_context(how((mode, *_OPTIONS)))


def _shown(path: str, point: str, *, write: bool) -> Filesystem:
    """The file system that is mounted there now, looked at where it is mounted from: the disk, not the bare folder."""
    seen = _mount_at(point)
    if seen is None or not device.shows(seen, path):
        raise TargetError(f"{path} is not what is mounted at {point}", "Was a disk exchanged? See `lsblk -f`.")
    if write and os.statvfs(point).f_flag & os.ST_RDONLY:
        raise TargetReadOnly(f"{path} is write-protected or mounted read-only", "See `dmesg` and the disk's switch.")
    return blkid.filesystem(seen.source)


def _refuse_clones(path: str, shown: Filesystem) -> None:
    """Of a disk and its clone either may have this name after the next boot, and the copies would be on both."""
    if others := device.clones(path, shown.uuid):
        message = f"{path} and {', '.join(others)} hold the same file system (UUID {shown.uuid}): one is a clone"
        raise TargetCloned(message, device.clone_hint(others))


def _mount_at(point: str) -> Mount | None:
    return mounts.mounted_at(mounts.table(), os.path.realpath(point))


def _medium(config: TargetConfig, node: str, filesystem: Filesystem) -> Medium:
    identity, problem = None, ""
    try:
        identity = mark.read(config.mountpoint)
    except Damaged as error:
        problem = error.message
    return Medium(
        root=config.mountpoint, config=config, identity=identity, filesystem_uuid=filesystem.uuid,
        fstype=filesystem.type, location=config.location(node), holder=config.holder(node), mark_problem=problem,
    )  # fmt: skip
