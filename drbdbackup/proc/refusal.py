"""Whether a guard around a copy is available: only a refusal says that it is not, never a program that failed.

What is gone without because of a moment (no memory, a kill, a deadline) would be gone without in silence.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from drbdbackup.errors import ToolError, ToolMissing, Unguarded, hint_for

_PAUSES = (0.1, 1.0)  # seconds before the second and the third try
_HINT = "Try again (a due run does so by itself). Look at dmesg: was memory short, was something killed?"
# Forbidden, not built in, a limit of 0, a chroot.
_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOSPC})
# What mount(8) says where the kernel, a container or an old util-linux does not let us.
_REFUSALS = (
    "operation not permitted", "permission denied", "must be superuser", "function not implemented",
    "read-only", "is write-protected", "bad option", "not supported", "unrecognized option", "invalid option",
)  # fmt: skip
_FORBIDDEN = "killed by signal 31"  # a system call that a filter allows nobody


def try_guard(attempt: Callable[[], object], what: str) -> bool:
    """Whether `attempt` has set up the guard; False where it is refused. Unguarded after three other failures."""
    for pause in (*_PAUSES, 0.0):
        try:
            attempt()
        except (ToolError, OSError) as error:
            if is_refusal(error):
                return False
            if not pause:
                if isinstance(error, ToolError):
                    raise Unguarded(f"{what}: {error.message}", error.hint or _HINT) from None
                raise Unguarded(f"{what}: {error.strerror}", hint_for(error.errno) or _HINT) from None
            time.sleep(pause)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def is_refusal(error: ToolError | OSError) -> bool:
    """Whether it would fail so each time: no such program, or it or the kernel has said that we may not or cannot."""
    if isinstance(error, OSError):
        return error.errno in _REFUSED
    asked, _, stderr = error.message.partition("\n")
    refused = asked.endswith(_FORBIDDEN) or any(words in stderr.lower() for words in _REFUSALS)
    return refused or isinstance(error, ToolMissing)
