"""What of a resource's evidence is a warning, what is critical, and in which words. Pure.

Whether a backup is missing is `oversight`'s verdict on the pair; here comes what that does not look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import IntEnum

from msgspec import Struct

from drbdbackup.catalog.bodies import Run
from drbdbackup.config.values import CheckConfig
from drbdbackup.doctor.media import Need
from drbdbackup.model.amount import size
from drbdbackup.model.backup import Copy, iso
from drbdbackup.model.restoring import Restoring
from drbdbackup.model.role import Decision, Verdict
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline.copies.known_copies import KnownCopy


class Severity(IntEnum):
    """As in the exit status of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


_OF_PAIR = {PairState.OK: Severity.OK, PairState.WARNING: Severity.WARNING, PairState.CRITICAL: Severity.CRITICAL}


class TargetRoom(Struct, frozen=True):
    """What a look at a target told: bytes, or why it cannot be used now. `need` is what the next night needs.

    A disk is mounted only while it is used, so its `free` is None.
    """

    target: str
    free: int | None = None
    total: int | None = None
    need: Need | None = None
    problem: str = ""


class PairEvidence(Struct, frozen=True, kw_only=True):
    """All that is known of one resource's backups on this node.

    `known` are all copies, `newest` is the newest undamaged one of a lineage that lives; `ended` is the newest run of
    any node that did not stand down, `began` the time of the first run that is known.
    `verified_at` and `drilled_at` are when any copy was verified whole, and drilled, last.
    """

    resource: str
    now: datetime
    verdict: Verdict
    pair: PairVerdict
    known: Sequence[KnownCopy] = ()
    newest: Copy | None = None
    ended: Run | None = None
    began: datetime | None = None
    verified_at: datetime | None = None
    drilled_at: datetime | None = None
    restoring: Restoring | None = None
    is_restoring_here: bool = False
    rooms: Sequence[TargetRoom] = ()

    @property
    def age(self) -> float | None:
        """Seconds since the newest backup was begun; None without one."""
        return None if self.newest is None else max(0.0, (self.now - self.newest.started_at).total_seconds())

    @property
    def damaged(self) -> list[Copy]:
        """Copies that were read and found damaged."""
        return [one.copy for one in self.known if one.copy.damaged_at is not None]


class Thresholds(Struct, frozen=True):
    """The age of the newest backup, in seconds, above which it is a warning, and critical; None for no limit."""

    warning: float | None = None
    critical: float | None = None


class Trouble(Struct, frozen=True):
    """One thing that wants attention, in one line."""

    severity: Severity
    what: str


class Health(Struct, frozen=True):
    """What was found of one resource, the worst first."""

    evidence: PairEvidence
    troubles: tuple[Trouble, ...]

    @property
    def name(self) -> str:
        """The resource's."""
        return self.evidence.resource

    @property
    def severity(self) -> Severity:
        """The worst of all."""
        return max((one.severity for one in self.troubles), default=Severity.OK)


def judge(evidence: PairEvidence, limits: CheckConfig, thresholds: Thresholds) -> Health:
    """Look at everything; nothing is left out because something else is worse."""
    found = [
        *_pair(evidence), *_age(evidence, thresholds), *_restore(evidence), *_role(evidence), *_targets(evidence),
        *_rooms(evidence), *_damaged(evidence), *_proven(evidence, limits),
    ]  # fmt: skip
    return Health(evidence, tuple(sorted(dict.fromkeys(found), key=lambda one: -one.severity)))


def _pair(seen: PairEvidence) -> Iterator[Trouble]:
    severity = _OF_PAIR[seen.pair.state]
    if severity:
        yield from (Trouble(severity if not at else Severity.WARNING, why) for at, why in enumerate(seen.pair.because))


def _age(seen: PairEvidence, thresholds: Thresholds) -> Iterator[Trouble]:
    age = seen.age
    if age is None:
        return
    for severity, limit in ((Severity.CRITICAL, thresholds.critical), (Severity.WARNING, thresholds.warning)):
        if limit is not None and age > limit:
            yield Trouble(severity, f"the newest backup is {age:.0f} s old, allowed are {limit:.0f} s")
            return


def _restore(seen: PairEvidence) -> Iterator[Trouble]:
    if seen.restoring is not None and not seen.is_restoring_here:
        yield Trouble(Severity.CRITICAL if seen.restoring.is_half else Severity.WARNING, seen.restoring.description)


def _role(seen: PairEvidence) -> Iterator[Trouble]:
    """A run that would be refused here; a half restored volume has a finding of its own."""
    if seen.verdict.decision is Decision.REFUSE and seen.restoring is None:
        yield Trouble(Severity.WARNING, f"a run would be refused here: {'; '.join(seen.verdict.because)}")
    yield from (Trouble(Severity.WARNING, why) for why in seen.verdict.left_out)


def _targets(seen: PairEvidence) -> Iterator[Trouble]:
    for name, ended in seen.ended.targets if seen.ended else ():
        if ended.get("outcome") == "failed":
            yield Trouble(Severity.WARNING, f"{name} failed in the last run: {ended.get('message', '')}")
    if seen.newest is not None and seen.newest.problems:
        yield Trouble(Severity.WARNING, f"{seen.newest.snapshot} lacks something of {seen.newest.problems:,} entries")


def _rooms(seen: PairEvidence) -> Iterator[Trouble]:
    for room in seen.rooms:
        if room.problem:
            yield Trouble(Severity.WARNING, f"{room.target} cannot be used now: {room.problem}")
        if room.free is None or room.need is None or room.free >= room.need.likely:
            continue
        is_short = room.free < room.need.usual
        needs = size(room.need.usual if is_short else room.need.likely)
        verb = "needs" if is_short else "may need"
        said = f"{room.target} has {size(room.free)} free; the next backup {verb} {needs}"
        yield Trouble(Severity.CRITICAL if is_short else Severity.WARNING, said)


def _damaged(seen: PairEvidence) -> Iterator[Trouble]:
    for copy in seen.damaged:
        yield Trouble(Severity.WARNING, f"{copy.snapshot} on {copy.location} is damaged")


def _proven(seen: PairEvidence, limits: CheckConfig) -> Iterator[Trouble]:
    """Too long ago, counted from the first backup where it never was."""
    for did, at, most in (
        ("verified completely", seen.verified_at, limits.verified), ("drilled", seen.drilled_at, limits.drilled),
    ):  # fmt: skip
        since = at or seen.began
        if most and since is not None and seen.now - since > timedelta(seconds=most):
            told = f"was last {did} at {iso(at)}" if at else f"has ever been {did}"
            yield Trouble(Severity.WARNING, f"{'a' if at else 'no'} copy {told}")
