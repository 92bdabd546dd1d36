"""The state folder: no run, restore or verify works without it, while `latest` and `status` still answer."""

from __future__ import annotations

import os
import tempfile

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.config.values import Config
from drbdbackup.doctor.finding import Check, Finding
from drbdbackup.errors import Failure
from drbdbackup.model.amount import size

LEAST_FREE = 256 << 20  # bytes; a run's lists take some 300 bytes for each file that it looks at
_TRIED = bytes(1 << 16)


class StateFacts(Struct, frozen=True):
    """Why nothing can be written there, "" if something can; `free` bytes."""

    folder: str
    problem: str = ""
    free: int = 0


def gather(config: Config) -> StateFacts:
    """Write a file there and remove it; where the folder is yet to be made, in what it will lie in."""
    folder = config.state_dir
    try:
        problem, free = proc.probe(lambda: _tried(folder), config.limits.probe, folder)
    except Failure as error:
        return StateFacts(folder, error.message)
    return StateFacts(folder, problem, free)


def _tried(folder: str) -> tuple[str, int]:
    while not os.path.lexists(folder) and folder != "/":
        folder = os.path.dirname(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(_TRIED)
            file.flush()
        seen = os.statvfs(folder)
    except OSError as error:
        return error.strerror or "it cannot be written", 0
    return "", seen.f_bavail * seen.f_frsize


def judge(facts: StateFacts) -> list[Finding]:
    """FAIL: nothing can be written there; WARN: little."""
    check = Check("state folder")
    if facts.problem:
        remedy = "Is that disk full, or read-only (`dmesg`)? Else run it as root, or set another state_dir."
        return [check.fail(f"nothing can be written to {facts.folder}: {facts.problem}", remedy)]
    free = f"{size(facts.free)} are free in {facts.folder}"
    if facts.free < LEAST_FREE:
        return [check.warn(f"{free}: a run keeps its lists there", "Free some space on the disk that holds it.")]
    return [check.ok(free)]
