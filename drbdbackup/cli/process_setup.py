"""What a process gets from whoever starts it (cron, a script, a daemon, a hook of a cluster), made what we count on.

Streams that are closed would be taken by the next file that is opened, and then a program's output goes into it.
Whether our children end nobody learns while SIGCHLD is ignored. It must come first, and must never fail.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_AS_WE_COUNT_ON = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)  # INT and HUP may be ignored on purpose: nohup
_NEITHER_GROUP_NOR_OTHERS_WRITE = 0o022


def put_right() -> None:
    """Open what is closed, hear the signals that we need, and let us read and write what we make."""
    for number, (name, mode) in enumerate(_STREAMS):
        _open(number, name, mode)
    for signum in _AS_WE_COUNT_ON:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # What we start (hooks, services) gets it too: stricter for others is fine, but nobody gets less than its owner.
    os.umask((os.umask(0) | _NEITHER_GROUP_NOR_OTHERS_WRITE) & 0o077)


def _open(number: int, name: str, mode: str) -> None:
    """In the order of their numbers: a file gets the lowest that is free."""
    try:
        os.fstat(number)
    except OSError:
        with suppress(OSError):
            os.open(os.devnull, os.O_RDWR)
    if getattr(sys, name) is None:
        setattr(sys, name, open(number, mode, closefd=False, errors="backslashreplace"))  # noqa: SIM115
