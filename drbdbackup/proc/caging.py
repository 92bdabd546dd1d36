"""The cage: own mount and PID namespaces that die with their starter, so nothing of ours outlives the run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

from drbdbackup.proc.command import Command, find
from drbdbackup.proc.guard import had
from drbdbackup.proc.once import run

_NAMESPACES = ("--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc")


@cache
def can_cage() -> bool:
    """Whether mount and PID namespaces can be had here (not in every container, not without root).

    Raises Unguarded. To be asked before the volume may have to be given up in time: it can take half a minute.
    """
    if os.geteuid() != 0 or find("setpriv") is None:
        return False
    return had(lambda: run(Command(("unshare", *_NAMESPACES, "true"), timeout=10.0)), "no cage for the copies")


def caged(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` in its own mount and PID namespace that dies with us; where that cannot be had, with a death signal only.

    Source of the recipe: setpriv(1), unshare(1); after kill -9 of the starter no process and no mount is left.
    """
    return bound(("unshare", *_NAMESPACES, *argv) if can_cage() else argv)


def bound(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` so that it is killed when the thread that starts it ends, however that ends."""
    return (*(("setpriv", "--pdeathsig", "KILL") if find("setpriv") else ()), *argv)
