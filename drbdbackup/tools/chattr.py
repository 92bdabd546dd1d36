"""What `chattr +i` and `+a` protect, even from root, as statx(2) says: nothing is opened, no link is followed."""

from __future__ import annotations

import ctypes

_SYMLINK_NOFOLLOW, _DONT_SYNC = 0x100, 0x4000
_ATTRIBUTES = 8  # where they are in `struct statx`, 64 bits of it
_IMMUTABLE, _APPEND = 0x10, 0x20
_libc = ctypes.CDLL(None, use_errno=True)


def is_protected(folder: int, name: bytes) -> bool:
    """Whether an entry of an open folder, b"" for the folder itself, is immutable or append-only. False if unknown."""
    answer = ctypes.create_string_buffer(256)
    flags = _SYMLINK_NOFOLLOW | _DONT_SYNC | (0 if name else 0x1000)  # AT_EMPTY_PATH
    try:
        failed = _libc.statx(ctypes.c_int(folder), ctypes.c_char_p(name), ctypes.c_int(flags), ctypes.c_uint(0), answer)
    except AttributeError:  # a C library without it
        return False
    attributes = ctypes.c_uint64.from_buffer(answer, _ATTRIBUTES).value
    return not failed and bool(attributes & (_IMMUTABLE | _APPEND))
