"""How much memory each Python process of a run takes at its peak, as the kernel counts it (VmHWM in proc(5)).

The mark only rises, so looking often enough means missing only what a process takes in its last moment.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

LOOK_EVERY = 0.01  # seconds


@dataclass(frozen=True)
class Peaks:
    """MiB by process: the supervisor's, and those of all Python processes below it."""

    supervisor: float
    workers: tuple[float, ...]

    @property
    def highest(self) -> float:
        return max(self.supervisor, *self.workers)


def watch(argv: Sequence[str]) -> Peaks:
    """Run a program to its good end and look at it and all its descendants meanwhile."""
    highest: dict[int, float] = {}
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as top:
        status: int | None = None
        while status is None:
            for pid in (top.pid, *_below(top.pid)):
                if (mark := _high_water(pid)) is not None:
                    highest[pid] = max(mark, highest.get(pid, 0.0))
            with suppress(subprocess.TimeoutExpired):
                status = top.wait(LOOK_EVERY)
    if status != 0:
        raise SystemExit(f"{' '.join(argv)} ended with {status}")
    return Peaks(highest.pop(top.pid), tuple(sorted(highest.values())))


def _below(top: int) -> list[int]:
    """The processes that descend from it."""
    parents = {int(name): _parent(name) for name in os.listdir("/proc") if name.isdigit()}
    found = [top]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found[1:]


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _high_water(pid: int) -> float | None:
    """MiB; None for a process that is not Python, or is gone."""
    with suppress(OSError, StopIteration):
        if "python" not in os.path.basename(os.readlink(f"/proc/{pid}/exe")):
            return None
        with open(f"/proc/{pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    return None
