"""Whether a guard around a copy can be had: only a refusal says that it cannot, never a program that came to grief.

What is gone without because of a moment (no memory, a kill, a deadline) would be gone without in silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drbdbackup.errors import ToolError, ToolMissing, Unguarded

_PAUSES = (0.1, 1.0)  # seconds before the second and the third try
_HINT = "Try again (a due run does so by itself). Look at dmesg: was memory short, was something killed?"
# What unshare(1) and mount(8) say where the kernel, a container or an old util-linux does not let us.
_REFUSALS = (
    "operation not permitted", "permission denied", "must be superuser", "function not implemented",
    "unshare failed: invalid argument", "unshare failed: no space left on device",  # not built in; a limit of 0
    "filesystem propagation: invalid argument",  # a chroot
    "read-only", "is write-protected", "bad option", "not supported", "unrecognized option", "invalid option",
)  # fmt: skip
_FORBIDDEN = "killed by signal 31"  # a system call that a filter allows nobody


def had(attempt: Callable[[], object], what: str) -> bool:
    """Whether `attempt` has set up the guard; False where it is refused. Raises Unguarded if it fails thrice else."""
    for pause in (*_PAUSES, 0.0):
        try:
            attempt()
        except ToolError as error:
            if is_refusal(error):
                return False
            if not pause:
                raise Unguarded(f"{what}: {error.message}", _HINT) from None
            time.sleep(pause)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def is_refusal(error: ToolError) -> bool:
    """Whether it would fail so each time: the program is not there, or has said that it may not or cannot."""
    asked, _, said = error.message.partition("\n")
    refused = asked.endswith(_FORBIDDEN) or any(words in said.lower() for words in _REFUSALS)
    return refused or isinstance(error, ToolMissing)
