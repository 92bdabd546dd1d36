"""A pager: a program on our own terminal that a person reads in for as long as he likes, and to which we write.

Whom sudo lets run one command must not get a root shell by it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from drbdbackup.proc.child import Child
from drbdbackup.proc.command import FOREVER, Command, found
from drbdbackup.proc.start_program import spawn

_LESS = "FRX"  # ends by itself if all is on one screen; colours; leaves on the screen what was read
_CALLERS = ("SUDO_UID", "PKEXEC_UID", "DOAS_USER")
_GRACE = 1.0  # seconds in which it puts the terminal right


@contextmanager
def paging(words: Sequence[str]) -> Iterator[TextIO]:
    """Start it; what is written goes to it, and when that is all, its end is waited for. Raises ToolMissing, ToolError.

    Meanwhile Ctrl-C is the pager's. Whatever else ends us ends it, too.
    """
    own = [("LC_ALL", os.environ.get("LC_ALL", ""))]  # its letters are not those of the C locale
    own += [] if "LESS" in os.environ else [("LESS", _LESS)]
    if is_for_another():  # it starts no shell and no editor, opens no file, and writes none into his home
        own += [("LESSSECURE", "1"), ("LESSHISTFILE", "-")]
    program = found(words[0])
    read, write = os.pipe()
    try:
        child = Child(spawn(program, Command(argv=tuple(words), env=tuple(own)), (read,), own_session=False))
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin = open(write, "w", encoding=sys.stdout.encoding)  # noqa: SIM115  closed below, where it may fail
    try:
        yield stdin
        _close(stdin)
        child.wait(time.monotonic() + FOREVER)
    except BaseException:
        _close(stdin)
        _end(child)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def is_for_another() -> bool:
    """Whether we are root for somebody who may not be: sudo may let him run this one command only."""
    return os.geteuid() == 0 and any(os.environ.get(name) not in (None, "0", "root") for name in _CALLERS)


def _close(stdin: TextIO) -> None:
    with suppress(OSError):  # nobody reads it any more
        stdin.close()


def _end(child: Child) -> None:
    with suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGTERM)
    if child.wait(time.monotonic() + _GRACE) is None:
        child.kill()
