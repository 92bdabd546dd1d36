"""The role as a word in a file, for the demonstration, for tests and for clusters that keep one under /run.

What it says is believed only if it is one of the two words.
"""

from __future__ import annotations

import os

from drbdbackup.errors import Failure
from drbdbackup.model.role import Observation
from drbdbackup.proc import probe
from drbdbackup.roles.words import observation_of, unknown

SOURCE = "file"
_LONGEST = 4096  # bytes
_HINT = "The file of [role] must hold one word, Primary or Secondary; write it to a new file and rename that."


def observe(resource: str, path: str, timeout: float) -> Observation:
    """Read it, from a process that can be abandoned: the path may lie on a share that hangs, or be a FIFO."""
    try:
        text = probe(lambda: _read(path), timeout, path)
    except Failure as error:
        hint = f"Whoever changes the role writes Primary or Secondary to {path}."
        return unknown(resource, SOURCE, f"the role of {resource} cannot be read: {error.message}", hint)
    return observation_of(str(text), resource, SOURCE, path, _HINT)


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return os.fsdecode(file.read(_LONGEST))
