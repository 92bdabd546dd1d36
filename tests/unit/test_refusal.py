"""Which errors of the kernel and words of mount(8) say that a guard cannot be had at all."""

from __future__ import annotations

import errno
import os

import pytest

from drbdbackup.errors import ToolError, ToolMissing, ToolTimedOut
from drbdbackup.proc.refusal import is_refusal

ASKED = "mount -o x -- /srv: exit status 32\n"
REFUSALS = [
    ASKED + "mount: /srv: Operation not permitted",
    ASKED + "mount: /srv: mount(2) system call failed: Function not implemented.",
    ASKED + "mount: unrecognized option '--make-private'",
    "new namespaces: killed by signal 31",
    "mount -o x -- /srv: exit status 32\nmount: /srv: permission denied.",
    "mount -o x -- /srv: exit status 1\nmount: /srv: must be superuser to use mount.",
    "mount -o x -- /srv: exit status 32\nmount: /srv: mount point not mounted or bad option.",
    "mount -o x -- /srv: exit status 32\nmount: /srv: cannot mount /srv read-only.",
]
MOMENTS = [
    "new namespaces: killed by signal 9",
    "cage: try: its process could not be started: fork: Resource temporarily unavailable",
    ASKED + "mount: /srv: mount(2) system call failed: Cannot allocate memory.",
    "mount -o x -- /srv/permission denied: killed by signal 9",
]


@pytest.mark.parametrize("message", REFUSALS)
def test_a_refusal_is_for_good(message: str) -> None:
    assert is_refusal(ToolError(message))


@pytest.mark.parametrize("message", MOMENTS)
def test_a_moment_is_no_refusal(message: str) -> None:
    assert not is_refusal(ToolError(message))


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOSPC])
def test_what_the_kernel_forbids_or_does_not_have_is_refused_for_good(number: int) -> None:
    assert is_refusal(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.EIO, errno.EMFILE])
def test_what_the_kernel_lacks_at_a_moment_is_no_refusal(number: int) -> None:
    assert not is_refusal(OSError(number, os.strerror(number)))


def test_a_program_that_is_not_there_refuses_and_one_that_is_late_does_not() -> None:
    assert is_refusal(ToolMissing("mount is not installed"))
    assert not is_refusal(ToolTimedOut("mount did not answer within 10 s"))
