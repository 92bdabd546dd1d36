"""mount(8) and umount(8): their argv, and what their exit statuses mean to us.

Nothing here decides whether something may be mounted, and nothing looks at what is mounted: see `mounts`.
"""

from __future__ import annotations

from collections.abc import Sequence

from drbdbackup import proc
from drbdbackup.proc import Command

# A journal is replayed, a large disk's tree is read: a mount may take minutes and is ended by its watcher.
_TIMEOUT = 15 * 60.0


def attach(device: str, point: str, options: Sequence[str] = (), fstype: str = "") -> None:
    """Mount a block device, or an image file through a loop device, at `point`; not propagated to other namespaces.

    `fstype` "" is found out by mount. Raises ToolError with mount's own words.
    """
    kind = ("--types", fstype) if fstype else ()
    _mount("--make-private", *kind, *_with(options), "--", device, point)


def bind(source: str, point: str, options: Sequence[str] = ()) -> None:
    """Show the folder `source` at `point` too. Raises ToolError."""
    _mount("--make-private", "--bind", *_with(options), "--", source, point)


def bind_open(folder: str, point: str, options: Sequence[str]) -> None:
    """Show a folder at `point` too that a process has open (`/proc/PID/fd/NUMBER/`), even if a mount hides it by now.

    Raises ToolError.
    """
    _mount("--no-canonicalize", "--make-private", "--bind", *_with(options), "--", folder, point)


def bind_nosymfollow(folder: str) -> None:
    """Make a folder a mount of its own, guarded as `remount_nosymfollow` guards one, with one program for both.

    A mount that does not know the flag may leave it out without a word. Raises ToolError.
    """
    bind(folder, folder, ("ro", "nosymfollow"))


def remount_read_only(point: str) -> None:
    """Make this mount read-only, and no other mount of the same file system. Raises ToolError."""
    _mount("--options", "remount,bind,ro", "--", point)


def remount_nosymfollow(point: str) -> None:
    """Make this mount read-only and have the kernel refuse to follow symlinks in it. Raises ToolError.

    Linux 5.10 or newer, util-linux 2.37 or newer.
    """
    _mount("--options", "remount,bind,ro,nosymfollow", "--", point)


def forbid_symlinks(point: str) -> None:
    """The same for a mount that stays writable. Raises ToolError."""
    _mount("--options", "remount,bind,nosymfollow", "--", point)


def seclude(point: str, *, is_mount: bool, write: bool) -> None:
    """Make this mount one in which no symlink is followed, nothing is executed and no device opened.

    It is cut off from the other namespaces, so that unmounting it on the host leaves ours alone. A folder that is no
    mount yet is made one. Raises ToolError.
    """
    options = ("rw" if write else "ro", "nosymfollow", "nodev", "nosuid", "noexec")
    if is_mount:
        _mount("--make-private", *_with(("remount", "bind", *options)), "--", point)
    else:
        bind(point, point, options)


def make_private(point: str) -> None:
    """Cut this mount off from the other namespaces: unmounting it on the host leaves ours alone. Raises ToolError."""
    _mount("--make-private", point)


def detach(point: str) -> None:
    """Unmount what is topmost at `point`; its loop device goes with it. Raises ToolError (busy, or a write failed)."""
    proc.run(Command(argv=("umount", "--", point), timeout=_TIMEOUT))


def detach_lazily(point: str) -> None:
    """Take the mount out of sight now; the kernel lets go of it when its last user does. Raises ToolError."""
    proc.run(Command(argv=("umount", "--lazy", "--", point)))


def sync(path: str) -> None:
    """Write everything of the file system that holds `path` to its medium (syncfs(2)). Raises ToolError.

    A program, not a call of ours: in mid-way on a dead share it can be abandoned.
    """
    proc.run(Command(argv=("sync", "--file-system", "--", path), timeout=proc.FOREVER))


def _with(options: Sequence[str]) -> tuple[str, ...]:
    return ("--options", ",".join(options)) if options else ()


def _mount(*argv: str) -> None:
    proc.run(Command(argv=("mount", *argv), timeout=_TIMEOUT))
