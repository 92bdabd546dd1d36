"""What a check comes to: OK, WARN or FAIL, why, and what to do. Nothing here looks at anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_MORE = "docs/doctor.md says more about this item."


class State(Enum):
    """FAIL: a backup, a restore or a failover will go wrong. WARN: one may, or it cannot be told from here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One item: `about` is the resource, target, node or service that it is about, "" where there is only one."""

    check: str
    about: str
    state: State
    because: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Makes the findings of one check about one thing. What is not OK always comes with what to do."""

    name: str
    about: str = ""

    def ok(self, because: str) -> Finding:
        """It is as it should be."""
        return Finding(self.name, self.about, State.OK, because)

    def warn(self, because: str, remedy: str) -> Finding:
        """It may do harm, or cannot be told."""
        return Finding(self.name, self.about, State.WARN, because, remedy or _MORE)

    def fail(self, because: str, remedy: str) -> Finding:
        """It will do harm."""
        return Finding(self.name, self.about, State.FAIL, because, remedy or _MORE)
