"""Mount and PID namespaces and the death signal: system calls that Python has no names for before 3.12, or not at all.

Each raises OSError. To be called in a process that was forked for it, and nowhere else: most changes cannot be undone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_NEWNS, _NEWPID = 0x00020000, 0x20000000  # unshare(2)
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE, _SLAVE = 2, 4, 8, 1 << 14, 1 << 18, 1 << 19  # mount(2)
_SET_PDEATHSIG, _SET_NAME = 1, 15  # prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Be killed when the thread that forked us ends. If it ended before this call, nothing happens: check for that."""
    _check(_libc.prctl(_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL)), "prctl")


def set_process_name(name: str) -> None:
    """What `ps -o comm` shows for us: 15 bytes at most, the rest is cut off."""
    _check(_libc.prctl(_SET_NAME, ctypes.c_char_p(os.fsencode(name))), "prctl")


def open_own_pids() -> int:
    """The PID namespace that we are in, for `have_children_in`; EINVAL where the kernel knows none."""
    try:
        return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None


def have_next_child_in_new_pids(own: int) -> None:
    """The next child that we fork is PID 1 of a namespace of its own; `have_children_in(own)` has to come right after.

    Where that could not be taken back, this fails, and nothing has changed.
    """
    have_children_in(own)
    _check(_libc.unshare(_NEWPID), "unshare")


def have_children_in(pids: int) -> None:
    """The children that we fork from now on are in this PID namespace, which we are in or which is below that."""
    _check(_libc.setns(pids, _NEWPID), "setns")


def enter_own_mounts() -> None:
    """Have a mount table of our own, which follows the host's but not the other way round."""
    _check(_libc.unshare(_NEWNS), "unshare")
    _mount("none", "/", "", _REC | _SLAVE)


def mount_proc() -> None:
    """Mount a /proc that shows the processes of our PID namespace."""
    _mount("none", "/proc", "", _REC | _PRIVATE)
    _mount("proc", "/proc", "proc", _NOSUID | _NOEXEC | _NODEV)


def _mount(source: str, point: str, fstype: str, flags: int) -> None:
    words = [os.fsencode(word) for word in (source, point, fstype)]
    _check(_libc.mount(words[0], words[1], words[2] or None, ctypes.c_ulong(flags), None), f"mount {point}")


def _check(answer: int, call: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
