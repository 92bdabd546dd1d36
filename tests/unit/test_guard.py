"""Which words of unshare(1) and mount(8) say that a guard cannot be had at all."""

from __future__ import annotations

import pytest

from drbdbackup.errors import ToolError, ToolMissing, ToolTimedOut
from drbdbackup.proc.guard import is_refusal

ASKED = "unshare --mount --pid true: exit status 1\n"
REFUSALS = [
    ASKED + "unshare: unshare failed: Operation not permitted",
    ASKED + "unshare: unshare failed: Invalid argument",
    ASKED + "unshare: unshare failed: No space left on device",
    ASKED + "unshare: unshare failed: Function not implemented",
    ASKED + "unshare: cannot change root filesystem propagation: Permission denied",
    ASKED + "unshare: cannot change root filesystem propagation: Invalid argument",
    ASKED + "unshare: mount /proc failed: Operation not permitted",
    ASKED + "unshare: unrecognized option '--kill-child'",
    "unshare --mount --pid true: killed by signal 31",
    "mount -o x -- /srv: exit status 32\nmount: /srv: permission denied.",
    "mount -o x -- /srv: exit status 1\nmount: /srv: must be superuser to use mount.",
    "mount -o x -- /srv: exit status 32\nmount: /srv: mount point not mounted or bad option.",
    "mount -o x -- /srv: exit status 32\nmount: /srv: cannot mount /srv read-only.",
]
MOMENTS = [
    "unshare --mount --pid true: killed by signal 9",
    ASKED + "unshare: fork failed: Cannot allocate memory",
    ASKED + "unshare: fork failed: Resource temporarily unavailable",
    ASKED + "unshare: sigprocmask unblock failed: Invalid argument",
    "mount -o x -- /srv: exit status 32\nmount: /srv: mount(2) system call failed: Cannot allocate memory.",
    "mount -o x -- /srv/permission denied: killed by signal 9",
]


@pytest.mark.parametrize("message", REFUSALS)
def test_a_refusal_is_for_good(message: str) -> None:
    assert is_refusal(ToolError(message))


@pytest.mark.parametrize("message", MOMENTS)
def test_a_moment_is_no_refusal(message: str) -> None:
    assert not is_refusal(ToolError(message))


def test_a_program_that_is_not_there_refuses_and_one_that_is_late_does_not() -> None:
    assert is_refusal(ToolMissing("unshare is not installed"))
    assert not is_refusal(ToolTimedOut("unshare did not answer within 10 s"))
