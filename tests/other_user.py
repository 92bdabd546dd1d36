"""A process of another user of a node (33), who does what any user may."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

AS_USER = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def enter_own_namespaces():  # in which he is root
    must(libc.unshare(0x10000000 | 0x20000 | 0x40000000))  # users, mounts, network
    for name, line in (("setgroups", "deny"), ("uid_map", "0 33 1"), ("gid_map", "0 33 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)

os.setgroups([]), os.setgid(33), os.setuid(33)
must(libc.prctl(4, 1, 0, 0, 0))  # what he may see and set of himself, as in each program that he starts
"""


@contextmanager
def at_work(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Around the block he has done what the script says, and waits."""
    whole = f"{AS_USER}{script}\nprint('ready', flush=True)\ntime.sleep(600)\n"
    argv = [sys.executable, "-c", whole, *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
