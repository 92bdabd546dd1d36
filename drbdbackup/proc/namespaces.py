"""Mount and PID namespaces and the death signal: system calls that Python has no names for before 3.12, or not at all.

Each raises OSError. To be called in a process that has just been forked, and nowhere else: the change cannot be undone.
"""

from __future__ import annotations

import ctypes
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


def enter_own_namespaces() -> None:
    """Have a mount table of our own, which follows the host's but not the other way round; the next child is PID 1."""
    _check(_libc.unshare(_NEWNS | _NEWPID), "unshare")
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
