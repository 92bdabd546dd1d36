"""How much memory a job of ours may take. The programs that it starts are not bound by that: each has its own needs,
and where others feed it, limits of its own.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock

from drbdbackup.proc.command import Command, found

_LEAST, _FIRST = 1 << 30, "1000"  # bytes; the highest score
_turn = Lock()
_bound: list[int] = []


def memory_for_untrusted_input() -> int:
    """Bytes that a program may take whose input others have made, and which may read most of it whole: half of what
    this node has, and 1 GiB at least.
    """
    return max(_LEAST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


def limit_memory(most: int) -> None:
    """Have every request for memory fail, from now on, once this process has so many bytes of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    _bound[:] = [most if hard == resource.RLIM_INFINITY else min(most, hard)]
    resource.setrlimit(resource.RLIMIT_DATA, (_bound[0], hard))


def be_first_oom_victim() -> None:
    """Let the kernel kill this process, and what it starts from now on, before any other (proc(5), oom_score_adj)."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_FIRST)


@contextmanager
def unbound() -> Iterator[None]:
    """Around the start of a program, which has the limits that we have at that moment."""
    if not _bound:
        yield
        return
    with _turn:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (_bound[0], hard))


def limited(program: str, argv: Sequence[str], command: Command) -> tuple[str, tuple[str, ...]]:
    """The program to start, and its argv, so that it has the limits of its command: before it can start anything.

    Set from outside they would come too late for what it forks at once. Raises ToolMissing.
    """
    limits = []
    wanted = (
        ("--data", resource.RLIMIT_DATA, command.memory), ("--fsize", resource.RLIMIT_FSIZE, command.largest_file),
    )  # fmt: skip
    for option, limit, most in wanted:
        if most:
            _, hard = resource.getrlimit(limit)
            limits.append(f"{option}={most if hard == resource.RLIM_INFINITY else min(most, hard)}")
    if not limits:
        return program, tuple(argv)
    return found("prlimit"), ("prlimit", *limits, "--", program, *argv[1:])
