"""A file system of their own for programs that are fed by others: from a snapshot that may be forged, or by a peer.

They see only the folders that are shown to them, have no network, and get no right that they are not given. It is laid
over a folder of a cage, and lasts as long as that or as its mount.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

from drbdbackup import proc
from drbdbackup.errors import ToolMissing
from drbdbackup.proc import Command
from drbdbackup.tools import mount

LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32")
_LIBRARIES = "/etc/ld.so.cache"
_SYSTEM = ("ro", "nosuid", "nodev")


def mount_root(at: str, system: Iterable[str]) -> None:
    """An empty file system over the folder `at`, whose content is out of sight then, with these `system` folders.

    Those are this host's own; what is missing here is missing there, a symlink is one there. Raises ToolError.
    """
    mount.attach("tmpfs", at, ("mode=0755", "size=64m", "nosuid", "noexec"), "tmpfs")
    for path in system:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(at + path), exist_ok=True)
            os.symlink(os.readlink(path), at + path)
        elif os.path.isdir(path):
            bind_read_only(at, path)
    os.makedirs(at + "/etc")
    with suppress(FileNotFoundError):
        shutil.copyfile(_LIBRARIES, at + _LIBRARIES)


def bind_read_only(at: str, path: str) -> None:
    """Show a folder or file of this host in there, read-only, at its own path. Raises ToolError."""
    if os.path.isdir(path):
        os.makedirs(at + path)
    else:
        os.makedirs(os.path.dirname(at + path), exist_ok=True)
        with open(at + path, "xb"):
            pass
    mount.bind(path, at + path, _SYSTEM)


def argv_prefix(at: str, rights: Iterable[str], home: str) -> tuple[str, ...]:
    """What has a program run in there, put before its argv: `rights` are options of setpriv(1). Raises ToolMissing."""
    alone: tuple[str, ...] = ("unshare", "--net", "--ipc", "--")
    if not proc.try_guard(lambda: proc.run(Command(argv=(*alone, "true"))), "no network namespace"):
        alone = ()
    path = proc.environment()["PATH"]
    return (
        "env", "--ignore-environment", f"PATH={path}", "LC_ALL=C", f"HOME={home}",
        *alone, "chroot", at, found("setpriv"), *rights, "--clear-groups", "--no-new-privs", "--",
    )  # fmt: skip


def found(program: str) -> str:
    """Its path on this host without symlinks, which is the same in there. Raises ToolMissing."""
    if path := proc.find(program):
        return os.path.realpath(path)
    raise ToolMissing.of(program)
