"""One run at a time on a node: a flock on a file, which the kernel drops with its holder, however that ends.

A lock file that a dead process left behind means nothing. What must never happen is that a child outlives us with the
lock in hand (a child in D state would hold it for ever): programs lose it by close-on-exec, which is how Python opens
files, plain forks by `_let_go`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config
from drbdbackup.errors import Locked, StateError, hint_for
from drbdbackup.model.backup import iso

_PAUSE = 0.05  # seconds between two tries
_PATIENCE = 60.0  # seconds that a look may take: catalogs are read by every road
_WRITING = 2  # times it is asked, in case its holder has not written yet who it is
_LOOK = "which only looks what is due, "
_held: set[int] = set()


@contextmanager
def held(path: str, *, looks: bool = False) -> Iterator[Callable[[], None]]:
    """Hold the lock file at `path`; its folder is made (0700) where it is missing.

    `looks`: the holder only looks whether there is work, until it calls what it gets here.

    Raises Locked, with who holds it and since when, at once; only for a look it waits a little.
    """
    handle = _opened(path)
    try:
        _take(handle, path)
        _held.add(handle)
        _say_who(handle, _LOOK if looks else "")
        yield lambda: _say_who(handle)
    finally:
        if handle in _held:  # not in a forked child, where the number may be another file's
            _held.discard(handle)
            with suppress(OSError):
                os.ftruncate(handle, 0)  # whoever holds it next and does not say who it is is not taken for us
        os.close(handle)


@contextmanager
def one_held(paths: Sequence[str], patience: float) -> Iterator[None]:
    """Hold one of several lock files, as `held` does, once one is free. Raises Locked after `patience` seconds."""
    until = time.monotonic() + patience
    with ExitStack() as stack:
        while not any(_entered(stack, path) for path in paths):
            if time.monotonic() >= until:
                raise Locked("all are held: " + ", ".join(paths), "Wait for one of their processes to end.")
            time.sleep(_PAUSE)
        yield


def _entered(stack: ExitStack, path: str) -> bool:
    with suppress(Locked):
        stack.enter_context(held(path))
        return True
    return False


def is_held(path: str) -> bool:
    """Whether a process of this machine holds it, asked without taking it: a run that begins now must not be in our
    way, nor we in its. A file of that number on another file system is anybody's. Source: proc_locks(5).
    """
    try:
        inode, real = b":%d" % os.stat(path).st_ino, os.path.realpath(path)
        with open("/proc/locks", "rb") as locks:  # any user may hold millions
            taken = {words[4] for line in locks if inode in line and (words := line.split())[1] == b"FLOCK"
                     and words[5].endswith(inode)}  # fmt: skip
    except OSError:
        return False
    return any(_has_open(int(pid), real) for pid in taken)


def _has_open(pid: int, path: str) -> bool:
    """Whether it is a process of our user that has this very path open. In namespaces of his own anybody could have a
    file of that path; nothing is asked of the files themselves, of which one may be on a share that hangs. What a
    process calls itself need be no text.
    """
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as status:
        (mine,) = (line.split()[2] for line in status if line.startswith(b"Uid:"))
        if int(mine) != os.geteuid():
            return False
        try:
            return any(_leads_to(f"/proc/{pid}/fd/{one}", path) for one in os.listdir(f"/proc/{pid}/fd"))
        except PermissionError:  # it has rights that we have not: it may hold it
            return True
    return False


def _leads_to(link: str, path: str) -> bool:
    try:
        return os.readlink(link) == path
    except PermissionError:
        raise
    except OSError:  # it was closed meanwhile
        return False


def is_free(path: str) -> bool:
    """Whether nobody holds it, asked by taking it for a moment: only for a file that no one will yet try to take.

    In a cage too, which sees no locks of processes outside in /proc. False where it cannot be asked or is not there.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _opened(path: str) -> int:
    try:
        private_folder(os.path.dirname(path))
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be opened: {error.strerror}", _hint(error, path)) from None


def _hint(error: OSError, path: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"Free some space on the disk that holds {os.path.dirname(path)} (state_dir)."
    if error.errno in (errno.EROFS, errno.EIO):
        return "Is that disk healthy? The kernel makes a file system with errors read-only: see `dmesg`."
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        return f"{hint_for(error.errno)} Every part of state_dir must be a folder."
    return hint_for(error.errno) or "Run it as root, or give the configuration a state_dir of your own."


def _take(handle: int, path: str) -> None:
    until, asked = time.monotonic() + _PATIENCE, 0
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            asked += 1
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            if time.monotonic() >= until or (_LOOK not in holder and asked > _WRITING):
                raise _locked(holder, path) from None
            time.sleep(_PAUSE)


def _locked(holder: str, path: str) -> Locked:
    hint = "Wait for it to end; `ps` shows the process if it should have ended long ago."
    found = re.search(r"process (\d+),", holder)
    if found and _is_stopped(found[1]):
        hint = f"It is stopped (Ctrl-Z?): `kill -CONT {found[1]}` lets it go on; `kill {found[1]}` before that ends it."
    return Locked(f"another drbdbackup is running{f': {holder}' if holder else ''} ({path})", hint)


def _is_stopped(pid: str) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
    return False


def age(path: str) -> float:
    """Since how many seconds its last holder has had it, whether it holds it still or not; 0 if nobody ever had it."""
    with suppress(OSError):
        return max(0.0, time.time() - os.stat(path).st_mtime)
    return 0.0


def _say_who(handle: int, what: str = "") -> None:
    with suppress(OSError):  # a courtesy to whoever waits: on a full disk it is left out
        os.ftruncate(handle, 0)
        since = f"process {os.getpid()}, since {iso(datetime.now(UTC))}"
        os.pwrite(handle, f"{_work()}{what}{since}\n".encode(), 0)


def _work() -> str:
    """Which command this process was started for, as "`drbdbackup run`, "; nothing if it is no drbdbackup."""
    if os.path.basename(sys.argv[0].removesuffix("/__main__.py")) != "drbdbackup":
        return ""
    words = zip(sys.argv, sys.argv[1:], strict=False)
    verb = next((word for before, word in words if not word.startswith("-") and before != "--config"), "")
    return f"`drbdbackup {verb}`, "


def _let_go() -> None:
    """In a forked child: the parent's lock is not ours."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def lock_file(config: Config) -> str:
    """What a run holds, and everything else that changes targets."""
    return os.path.join(config.state_dir, "lock")
