"""What a check comes to: OK, WARN or FAIL, why, and what to do. Nothing here looks at anything."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from drbdbackup import documentation

_MORE = f"{documentation.page('docs/doctor.md')} says more about this item."


class FindingState(Enum):
    """FAIL: a backup, a restore or a failover will go wrong. WARN: one may, or it is not known from here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One item: `about` is the resource, target, node or service that it is about, "" where there is only one."""

    check: str
    about: str
    state: FindingState
    because: str
    remedy: str = ""


class Check(Struct, frozen=True):
    """Makes the findings of one check about one thing. What is not OK always comes with what to do."""

    name: str
    about: str = ""

    def ok(self, because: str) -> Finding:
        """It is as it should be."""
        return Finding(self.name, self.about, FindingState.OK, because)

    def warn(self, because: str, remedy: str) -> Finding:
        """It may do harm, or is not known."""
        return Finding(self.name, self.about, FindingState.WARN, because, remedy or _MORE)

    def fail(self, because: str, remedy: str) -> Finding:
        """It will do harm."""
        return Finding(self.name, self.about, FindingState.FAIL, because, remedy or _MORE)
