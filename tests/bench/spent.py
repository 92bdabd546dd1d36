"""What a command costs: the processor time of all that it starts, and the programs that are executed for it.

What it leaves running is waited for, and counts, too: the process that measures is the one that orphans fall to.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.played_media import tool

PATIENCE = 600  # seconds
_PR_SET_CHILD_SUBREAPER = 36
_EXECUTED = re.compile(r"(execve\(|execve resumed>).* = 0$")


@dataclass(frozen=True)
class Cost:
    """What a command and all its descendants took: `seconds` by the wall, `processor` in seconds (user and system),
    `peak` of the largest process in MiB (no less than of who measures), `written` as the kernel puts it down to
    processes, in MiB.
    """

    seconds: float
    processor: float
    peak: float
    written: float


def processor(argv: Sequence[str]) -> float:
    """Seconds of processor (user and system) of a command that must succeed, and of all its descendants."""
    return cost(argv).processor


def cost(argv: Sequence[str], patience: float = PATIENCE) -> Cost:
    """All that a command that must succeed takes."""
    read, write = os.pipe()
    measuring = os.fork()
    if measuring == 0:  # its own children are all that it has ever waited for
        with suppress(BaseException):
            os.write(write, " ".join(map(str, _of_all(argv, patience))).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        said = answer.read()
    os.waitpid(measuring, 0)
    if not said:
        raise SystemExit(f"{' '.join(argv)} failed, or took longer than {patience} s")
    return Cost(*map(float, said.split()))


def programs(argv: Sequence[str], only: str = "") -> int:
    """How many programs a command that must succeed executes, itself included; `only` those of that name."""
    with tempfile.TemporaryDirectory(prefix="drbdbackup-bench-") as folder:
        trace = Path(folder) / "trace"
        tool("strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", trace, *argv)
        lines = [line for line in trace.read_text(errors="replace").splitlines() if _EXECUTED.search(line)]
        return len(lines) if not only else sum(f'/{only}", [' in line for line in lines)


def _of_all(argv: Sequence[str], patience: float) -> tuple[float, float, float, float]:
    signal.setitimer(signal.ITIMER_REAL, patience)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    nothing = os.open(os.devnull, os.O_RDWR)
    moves = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, nothing, 1)]
    begun = time.perf_counter()
    main = os.posix_spawn(argv[0], argv, os.environ, file_actions=moves)
    if os.waitstatus_to_exitcode(os.waitpid(main, 0)[1]) != 0:
        raise SystemExit(1)
    seconds = time.perf_counter() - begun
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    [written] = re.findall(r"^write_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, int(written) / 2**20
