"""Where MariaDB's programs work on files from a snapshot, which anybody who can write to its medium may have made.

They run as a user that owns nothing here, with no new privileges, no network and no sockets. They see only the programs
of this host, the data, and a folder to work in. A sandbox lasts as long as its cage.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup.errors import DatabaseFailed
from drbdbackup.pipeline.cage import sandbox
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.files.tree import shown_to_others
from drbdbackup.proc import Command
from drbdbackup.tools import mount

_FREE = range(65533, 65519, -1)  # uids that Debian and systemd give to nobody; 65534 is `nobody`, who may be at work
_NOBODY = 65534
_DATA, _WORK = "/data", "/work"
_SYSTEM = ("/usr", "/bin", "/sbin", *sandbox.LIBRARIES, "/opt")
_FILES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_GUARDED = ("nosuid", "nodev", "noexec")
_NO_RIGHTS = ("--bounding-set=-all", "--inh-caps=-all")


class MariadbSandbox(Struct, frozen=True):
    """`data` and `work` are where a program in it finds its data and the folder to work in.

    `prefix` is what has a program run in it: nothing where we are not root.
    """

    data: str
    work: str
    prefix: tuple[str, ...] = ()

    def inside(self, command: Command) -> Command:
        """The command so that it runs in here."""
        return replace(command, argv=(*self.prefix, *command.argv))


@contextmanager
def entered(
    at: str, data: int, work: int | None, commands: Sequence[Command], *, caged: bool, channel: Channel
) -> Iterator[MariadbSandbox]:
    """Build one for the programs of these commands over the folder `at`, whose content is out of sight then.

    The folders `data` and `work` (open; without one, a small one in memory) belong to the account for the block, and to
    whom they belonged before after it, as far as they were there; else to us. Who is not root works as he is, at `at`.

    Raises DatabaseFailed for root without a cage, ToolError.
    """
    if os.geteuid() != 0:
        yield MariadbSandbox(shown_to_others(data), at)
        return
    if not caged:
        hint = "Restore its folder with `--path`, read its backup-my.cnf, and prepare it by hand."
        raise DatabaseFailed("a database's files are only worked on in a cage, which is not available here", hint)
    account = _account()
    os.umask(0o022)  # the account has to reach what is made here
    sandbox.mount_root(at, _SYSTEM)
    for path in {os.path.dirname(one) for one in _programs(commands)}:
        if not os.path.exists(at + path):
            sandbox.bind_read_only(at, path)
    for path in _FILES:
        os.makedirs(os.path.dirname(at + path), exist_ok=True)
        with open(at + path, "xb"):
            mount.bind(path, at + path)
    _show_open(data, at + _DATA)
    if work is None:
        os.mkdir(at + _WORK)
        os.chown(at + _WORK, account, account)
    else:
        os.chown(work, account, account)
        _show_open(work, at + _WORK)
    with channel.beating():
        before = _owners(data)
    try:
        with channel.beating():
            _give(data, account)
        account_only = (f"--reuid={account}", f"--regid={account}", *_NO_RIGHTS)
        yield MariadbSandbox(_DATA, _WORK, sandbox.argv_prefix(at, account_only, _WORK))
    finally:
        with channel.beating():
            _give_back(data, before)


def _programs(commands: Sequence[Command]) -> Iterator[str]:
    for command in commands:
        yield from (command.argv[0], os.path.realpath(command.argv[0]))


def _account() -> int:
    """A uid, and a gid, that nobody has."""
    for uid in _FREE:
        with suppress(KeyError):
            pwd.getpwuid(uid)
            continue
        with suppress(KeyError):
            grp.getgrgid(uid)
            continue
        return uid
    return _NOBODY


def _show_open(folder: int, point: str) -> None:
    os.mkdir(point)
    mount.bind_open(shown_to_others(folder), point, _GUARDED)


_Owners = dict[tuple[str, str], tuple[int, int]]


def _owners(data: int) -> _Owners:
    """The owner of everything there, by folder and name."""
    found: _Owners = {}
    for folder, folders, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in (*folders, *files):
            seen = os.stat(name, dir_fd=at, follow_symlinks=False)
            found[folder, name] = seen.st_uid, seen.st_gid
    seen = os.fstat(data)
    found["", "."] = seen.st_uid, seen.st_gid
    return found


def _give(data: int, account: int) -> None:
    for _, folders, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, account, account, dir_fd=at, follow_symlinks=False)
    os.chown(data, account, account)


def _give_back(data: int, before: _Owners) -> None:
    ours = os.geteuid(), os.getegid()
    for folder, folders, files, at in os.fwalk(".", dir_fd=data, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, *before.get((folder, name), ours), dir_fd=at, follow_symlinks=False)
    os.chown(data, *before["", "."])
