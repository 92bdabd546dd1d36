"""Where a restore writes to: a folder that is empty or absent, or the live volume while it is what was judged.

Nothing is written before it has been checked, and whatever is written goes through the one descriptor that was.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from drbdbackup import proc
from drbdbackup.errors import Interrupted, UsageError
from drbdbackup.model.mount import Mount, MountIdentity
from drbdbackup.pipeline.cage.nosymfollow import without_symlinks
from drbdbackup.pipeline.files.tree import shown_to_others
from drbdbackup.pipeline.volume import trusted_path
from drbdbackup.pipeline.volume.destination_protocol import Destination, OverVolume, ToFolder
from drbdbackup.pipeline.volume.guard import identity, mounted_now
from drbdbackup.scan import NOT_OURS
from drbdbackup.tools import chattr, mount, mounts

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def check(place: Destination) -> None:
    """Raises UsageError unless it is an empty or absent folder (or may be merged into) that can be written to.

    Raises Interrupted if the volume is not mounted (any more) as it was when the verdict was reached.
    """
    if isinstance(place, OverVolume):
        _judged(place.source, place.mounted)
        _refuse_read_only(place)
        return
    where = place.to
    try:
        _refuse_read_only(place)
        _refuse_protected(where)
        names = os.listdir(where)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"--to {where} is not a folder", "Name an empty folder, or one that does not exist.") from None
    except OSError as error:  # else the copy would be blamed
        raise UsageError(f"--to {where} cannot be restored to: {error.strerror}", "Name another folder.") from None
    _refuse_full(place, names)


def to_merge_into(place: Destination) -> int | None:
    """The open folder that a restore is to be merged into, where there is one."""
    if isinstance(place, ToFolder) and place.merge:
        with suppress(FileNotFoundError):
            return os.open(place.to, _FOLDER)
    return None


def _refuse_protected(where: str) -> None:
    """In a folder that is immutable nothing can be made, and in one that is append-only nothing gets its name."""
    folder = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if chattr.is_protected(folder, b""):
            hint = f"`chattr -i -a {where}`, or name another folder."
            raise UsageError(f"--to {where} cannot be restored to: it is immutable or append-only", hint)
    finally:
        os.close(folder)


def _refuse_read_only(place: Destination) -> None:
    """A mount of our own over it would be writable although the one below is not."""
    if _file_system(place).f_flag & os.ST_RDONLY:
        raise UsageError(f"{place.path} cannot be restored to: it is mounted read-only", "Look at `dmesg` and findmnt.")


def _refuse_full(place: ToFolder, names: list[str]) -> None:
    if [name for name in names if os.fsencode(name) not in NOT_OURS] and not place.merge:
        hint = "Name an empty or absent folder. --merge restores over what is there and deletes nothing."
        raise UsageError(f"--to {place.to} is not empty", hint)


@contextmanager
def opened(place: Destination, *, caged: bool) -> Iterator[int]:
    """The destination as an open folder, made where it is absent (0700 until it gets its own mode).

    Raises as `check`, and UsageError where it cannot be opened.
    """
    check(place)
    with ExitStack() as stack:
        try:
            if isinstance(place, OverVolume):
                folder = _over_volume(place, stack, caged=caged)
            else:
                folder = _new_folder(place, stack, caged=caged)
        except OSError as error:
            raise UsageError(f"{place.path} cannot be restored to: {error.strerror}", "Name another folder.") from None
        yield folder


def _over_volume(place: OverVolume, stack: ExitStack, *, caged: bool) -> int:
    mounted = _protected(place) if caged else place.mounted
    folder = os.open(place.path, _FOLDER)
    stack.callback(os.close, folder)
    _judged(place.path, mounted)
    return folder


def _new_folder(place: ToFolder, stack: ExitStack, *, caged: bool) -> int:
    """Raises UsageError where somebody replaces it, or a folder above, meanwhile, or writes to it, too."""
    parent, name, folder = stack.enter_context(trusted_path.opened(place.to, make=True))
    _claim(folder, place.to)
    _refuse_full(place, os.listdir(folder))
    return _seclude(place, parent, name, folder, stack) if caged else folder


def _claim(folder: int, where: str) -> None:
    """Two restores into one folder would leave a mixture of two snapshots there. Some shares know no locks.

    Raises UsageError.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hint = "Wait for it to end, or name another folder."
        raise UsageError(f"another restore writes to --to {where}", hint) from None
    except OSError:
        return


def free(place: Destination) -> int | None:
    """Bytes that can still be written where the destination is, or will be; None where the file system does not say so
    (ramfs, some of FUSE).
    """
    seen = _file_system(place)
    return seen.f_bavail * seen.f_frsize if seen.f_blocks else None


def lacking_inodes(place: Destination, needed: int) -> int:
    """How many of the inodes that are needed there are not free. 0 where they are not limited."""
    seen = _file_system(place)
    return max(0, needed - seen.f_favail) if seen.f_files else 0


def used(folder: int) -> int:
    """Bytes that are in use on the file system of an open folder."""
    seen = os.fstatvfs(folder)
    return (seen.f_blocks - seen.f_bfree) * seen.f_frsize


def has_no_inodes(folder: int) -> bool:
    """Whether the file system of an open folder has no more of them."""
    seen = os.fstatvfs(folder)
    return bool(seen.f_files) and not seen.f_favail


def _file_system(place: Destination) -> os.statvfs_result:
    """What it is on, or will be, as the nearest folder says that is there: others may take one away meanwhile."""
    where = place.path
    while True:
        try:
            return os.statvfs(where)
        except (FileNotFoundError, NotADirectoryError):
            where = os.path.dirname(where)


def takes_links(folder: int) -> bool:
    """Whether a file in the open folder can have a second name: tried, since no file system says so."""
    names = [b".drbdbackup-" + secrets.token_hex(8).encode() for _ in range(2)]
    try:
        os.close(os.open(names[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
        os.link(*names, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
    finally:
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
    return True


def mountpoints(place: Destination) -> frozenset[bytes]:
    """Other file systems in the volume, as paths from it: they are not its own. Asked before `opened`."""
    if not isinstance(place, OverVolume):
        return frozenset()
    below = mounts.below(mounts.table(), place.source)
    return frozenset(os.fsencode(os.path.relpath(one.point, place.source)) for one in below)


def _judged(source: str, mounted: MountIdentity | None) -> Mount | None:
    seen = mounts.mounted_at(mounts.table(), source)
    if identity(seen) != mounted:
        raise Interrupted(f"{source} is not mounted any more as it was when this began")
    return seen


def _seclude(place: ToFolder, parent: int, name: str, folder: int, stack: ExitStack) -> int:
    """The folder with a mount over it in which no symlink leads a write out: whoever owns a folder of the volume can
    swap one while we restore.

    Where something is mounted below it, which a mount of its own would hide, only rsync's care is left: with `merge`.
    In an empty folder (of ours nothing is mounted there) another user has done that, for whom it must not be lost.
    Raises Unguarded; UsageError for that, and where somebody has put something else in its place.
    """
    where = place.to
    if found := mounts.below(mounts.table(), where):
        if not place.merge:
            raise UsageError(f"--to {where}: something is mounted at {found[0].point}", "Unmount it, or name another.")
        return folder
    point, source = os.path.join(shown_to_others(parent), name), shown_to_others(folder)
    guard = ("nosymfollow",)
    is_guarded = proc.try_guard(lambda: mount.bind_open(source, point, guard), f"{where} could not be guarded")
    over = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    stack.callback(os.close, over)
    is_over = mounts.mount_id_of(over) != mounts.mount_id_of(folder)
    if not os.path.samestat(os.fstat(over), os.fstat(folder)) or is_over != is_guarded:
        raise UsageError(f"{where} was replaced by somebody else meanwhile", "Name a folder that only root can write.")
    return over


def _protected(place: OverVolume) -> MountIdentity | None:
    """Let no symlink in the live volume lead a write out of it; in a cage only, where the mount is our own.

    What is mounted there from then on. Raises Unguarded.
    """
    source, mounted = place.source, place.mounted
    if _judged(source, mounted) is None:
        if not proc.try_guard(lambda: mount.bind(source, source), f"{source} could not be made a mount"):
            return mounted
        mounted = mounted_now(source)
    without_symlinks(source, mount.forbid_symlinks)  # where that is refused, rsync's own care is left
    return mounted
