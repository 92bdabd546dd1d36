"""What a process gets from whoever starts it (cron, a script, a daemon, a hook of a cluster), made what we count on.

Streams that are closed would be taken by the next file that is opened, and then a program's output goes into it.
While SIGCHLD is ignored, the end of a child is not noticed. It must come first, and must never fail.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings
from contextlib import suppress

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_NEVER_IGNORED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)  # INT and HUP may be ignored on purpose: nohup
# A cage sets its own of memory.
_LIMITS = (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_CPU)
_FILES = 1024  # open files, the usual soft limit
_WARNINGS = "PYTHONWARNINGS"
_UMASK = 0o022


def prepare_process() -> None:
    """Open what is closed, hear the signals that we need, and let us read and write what we make."""
    for number, (name, mode) in enumerate(_STREAMS):
        _open(number, name, mode)
    for signum in _NEVER_IGNORED:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for limit in _LIMITS:
        _lift(limit)
    _allow_files()
    if os.environ.pop(_WARNINGS, ""):  # of whoever develops something: no word of a library's is to end a backup
        warnings.simplefilter("ignore")
    # What we start (hooks, services) gets it too: stricter for others is fine, but nobody gets less than its owner.
    os.umask((os.umask(0) | _UMASK) & 0o077)


def _lift(limit: int) -> None:
    """A shell's `ulimit` is not meant for a backup: files above it would be called too large for the target."""
    _, hard = resource.getrlimit(limit)
    for most in (hard, resource.RLIM_INFINITY):
        with suppress(OSError, ValueError):  # a container may keep root from more than `hard`
            resource.setrlimit(limit, (most, most))


def _allow_files() -> None:
    """Not as many as possible: some programs close each of them when they start."""
    least, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= least < _FILES:
        for most in ((_FILES, _FILES) if 0 <= hard < _FILES else (_FILES, hard), (hard, hard)):
            with suppress(OSError, ValueError):
                return resource.setrlimit(resource.RLIMIT_NOFILE, most)
    return None


def _open(number: int, name: str, mode: str) -> None:
    """In the order of their numbers: a file gets the lowest that is free."""
    try:
        os.fstat(number)
    except OSError:
        with suppress(OSError):
            os.open(os.devnull, os.O_RDWR)
    if getattr(sys, name) is None:
        setattr(sys, name, open(number, mode, closefd=False, errors="backslashreplace"))  # noqa: SIM115
