"""The clocks of the NAS and the other nodes, against ours: times of copies, retention and due times go by them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from drbdbackup.config.values import TargetConfig
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.targets import identity, layout, target

MOST = 60.0  # seconds
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """By how many seconds the clock of `whose` is ahead of ours (negative: behind), None if it could not be told."""

    whose: str
    ahead: float | None
    problem: str = ""


def look(share: TargetConfig, expected: Mapping[str, Any], node: str) -> float:
    """How far the share's clock is ahead, by the time that it gives to a fresh file. It may hang: for a probe.

    Nothing is written where the share is not the target that it was. Raises TargetError, OSError.
    """
    with target(share).opened(node, write=True) as medium:
        identity.check(medium, expected, node, may_enrol=False)
        folder = os.open(layout.home(medium.root), _FOLDER)
        try:
            return _ahead(folder, f".clock-{node}-{os.urandom(4).hex()}")
        finally:
            os.close(folder)


def _ahead(folder: int, name: str) -> float:
    before = time()
    file = os.open(name, _FRESH, 0o600, dir_fd=folder)
    try:
        os.write(file, b"x")
        os.fsync(file)
        return os.fstat(file).st_mtime - (before + time()) / 2
    finally:
        os.close(file)
        os.unlink(name, dir_fd=folder)


def looking(share: TargetConfig, expected: Mapping[str, Any], node: str) -> Callable[[], float]:
    """`look` as a probe takes it."""
    return lambda: look(share, expected, node)


def judge(facts: ClockFacts) -> list[Finding]:
    """Within a minute."""
    check = Check("clock", facts.whose)
    if facts.ahead is None:
        if not facts.problem:
            return []
        return [check.warn(f"its clock cannot be told: {facts.problem}", "See what is said of it above.")]
    if abs(facts.ahead) <= MOST:
        return [check.ok(f"it is within {MOST:.0f} s of ours ({facts.ahead:+.0f} s)")]
    way = "ahead of" if facts.ahead > 0 else "behind"
    because = f"it is {abs(facts.ahead):,.0f} s {way} ours"
    return [check.fail(because, "Let all of them keep time by the same server: apt install chrony")]
