"""One run at a time on a node: a flock on a file, which the kernel drops with its holder, however that ends.

A lock file that a dead process left behind means nothing. What must never happen is that a child outlives us with the
lock in hand (a child in D state would hold it for ever): programs lose it by close-on-exec, which is how Python opens
files, plain forks by `_let_go`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

from drbdbackup.catalog.folders import private_folder
from drbdbackup.config.values import Config
from drbdbackup.errors import Locked, StateError
from drbdbackup.model.backup import iso

_PAUSE = 0.05  # seconds between two tries
_held: set[int] = set()


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock file at `path`; its folder is made (0700) where it is missing.

    Raises Locked, with who holds it and since when, at once: nothing here waits.
    """
    handle = _opened(path)
    try:
        _take(handle, path)
        _held.add(handle)
        yield
    finally:
        _held.discard(handle)
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
    way, nor we in its. Source: proc_locks(5).
    """
    try:
        inode = os.stat(path).st_ino
        with open("/proc/locks") as locks:
            return any(words[1] == "FLOCK" and words[5].endswith(f":{inode}") for words in map(str.split, locks))
    except OSError:
        return False


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
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "Every part of state_dir must be a folder: remove what is in its place, or set another state_dir."
    return "Run it as root, or give the configuration a state_dir of your own."


def _take(handle: int, path: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
        raise Locked(
            f"another drbdbackup is running{f': {holder}' if holder else ''} ({path})",
            "Wait for it to end; `ps` shows the process if it should have ended long ago.",
        ) from None
    with suppress(OSError):  # a courtesy to whoever waits: on a full disk it is left out
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{_work()}process {os.getpid()}, since {iso(datetime.now(UTC))}\n".encode(), 0)


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
