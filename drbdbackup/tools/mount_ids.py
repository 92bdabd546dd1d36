"""Ids of mounts that no later mount gets, from statmount(2) and listmount(2), which Linux has since 6.8.

The number in mountinfo is free for the next mount as soon as one is unmounted: who looks too late cannot tell them
apart. Nothing here looks up a path or asks a file system.
"""

from __future__ import annotations

import ctypes
import errno

_STATMOUNT, _LISTMOUNT = 457, 458
_ROOT, _BASIC = (1 << 64) - 1, 2  # LSMT_ROOT, STATMOUNT_MNT_BASIC
_MANY = 1 << 12  # mounts in an answer
_libc = ctypes.CDLL(None, use_errno=True)


class _Request(ctypes.Structure):
    """What is asked, `struct mnt_id_req` in its first version."""

    _fields_ = [
        ("size", ctypes.c_uint32), ("spare", ctypes.c_uint32), ("mount", ctypes.c_uint64), ("param", ctypes.c_uint64),
    ]  # fmt: skip


class _Answer(ctypes.Structure):
    """The beginning of `struct statmount`, and room for the rest."""

    _fields_ = [
        ("before", ctypes.c_uint8 * 40), ("mount", ctypes.c_uint64), ("parent", ctypes.c_uint64),
        ("number", ctypes.c_uint32), ("after", ctypes.c_uint8 * 452),
    ]  # fmt: skip


def lasting_id(number: int) -> int | None:
    """The id of the mount that has this number in our mountinfo now; None if the kernel does not say."""
    listed = (ctypes.c_uint64 * _MANY)()
    last = 0
    while (count := _call(_LISTMOUNT, _ROOT, last, listed, _MANY)) > 0:
        for one in listed[:count]:
            answer = _Answer()
            if _call(_STATMOUNT, one, _BASIC, answer, ctypes.sizeof(answer)) == 0 and answer.number == number:
                return one
        last = listed[count - 1]
    return None


def is_there(lasting: int) -> bool:
    """Whether the mount with this id is in our mount table still."""
    answer = _Answer()
    return _call(_STATMOUNT, lasting, _BASIC, answer, ctypes.sizeof(answer)) == 0 or ctypes.get_errno() != errno.ENOENT


def _call(number: int, mount: int, param: int, answer: ctypes.Array[ctypes.c_uint64] | _Answer, room: int) -> int:
    """-1 where it fails."""
    request = _Request(ctypes.sizeof(_Request), 0, mount, param)
    return int(_libc.syscall(
        ctypes.c_long(number), ctypes.byref(request), ctypes.byref(answer), ctypes.c_size_t(room), ctypes.c_uint(0)
    ))  # fmt: skip
