"""A repository off site: can this node show what is in it, and does its password lie anywhere but on the nodes?

It never opens the repository.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from drbdbackup import proc
from drbdbackup.doctor.finding import Check, Finding

_FUSE = ("fusermount3", "fusermount")


class RepositoryFacts(Struct, frozen=True):
    """Of a target: whether its sheet for the safe was ever asked for, and whether FUSE is installed here."""

    target: str
    is_printed: bool
    has_fuse: bool


def gather(target: str, *, is_printed: bool) -> RepositoryFacts:
    """Look whether what shows its copies is installed."""
    return RepositoryFacts(target, is_printed, any(map(proc.find, _FUSE)))


def judge(facts: RepositoryFacts) -> Iterator[Finding]:
    """Without its password nobody can read what is stored there, once both nodes are lost."""
    check = Check("key sheet", facts.target)
    if facts.is_printed:
        yield check.ok("the sheet with its password was printed")
    else:
        because = "its password is on the nodes only: what is stored there would be lost with them"
        yield check.warn(because, f"drbdbackup target key {facts.target} | lpr; put the sheet into a safe.")
    check = Check("readable", facts.target)
    if facts.has_fuse:
        yield check.ok("its copies can be shown here")
    else:
        yield check.fail("copies are made, and nothing here can show them: no restore, no verify", "apt install fuse3")
