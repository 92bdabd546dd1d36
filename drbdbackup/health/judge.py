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
from drbdbackup.due import TargetDue
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


class TargetRoom(Struct, frozen=True, kw_only=True):
    """What a look at a target found: bytes, or why it cannot be used now. `need` is what the next night needs.

    A disk is mounted only while it is used: then it is what was left at its last use, `seen_at`. Both are None where no
    use is known. `free_inodes` is None, too, where a file system has no fixed number of them. A target that is not
    `is_asked` may be there or not.
    """

    target: str
    free: int | None = None
    total: int | None = None
    need: Need | None = None
    problem: str = ""
    free_inodes: int | None = None
    seen_at: datetime | None = None
    is_asked: bool = True


class PairEvidence(Struct, frozen=True, kw_only=True):
    """All that is known of one resource's backups on this node.

    `known` are all copies, `newest` is the newest undamaged one of a lineage that lives; `ended` is the newest run of
    any node that did not stand down, `ended_common` the newest that tried all targets without a schedule of their own.
    `began` is the time of the first run that is known.
    `verified_at` and `drilled_at` are when any copy was verified whole, and drilled, last. `own_schedules` are those of
    targets; a copy is late `grace` seconds after its due time. `refused` are other nodes' catalogs that are not
    believed, wholly or in part, with the reason.
    """

    resource: str
    now: datetime
    verdict: Verdict
    pair: PairVerdict
    known: Sequence[KnownCopy] = ()
    newest: Copy | None = None
    ended: Run | None = None
    ended_common: Run | None = None
    began: datetime | None = None
    verified_at: datetime | None = None
    drilled_at: datetime | None = None
    restoring: Restoring | None = None
    is_restoring_here: bool = False
    rooms: Sequence[TargetRoom] = ()
    own_schedules: Sequence[TargetDue] = ()
    grace: float = 0.0
    refused: Sequence[tuple[str, str]] = ()

    @property
    def age(self) -> float | None:
        """Seconds since the newest backup was begun; None without one."""
        return None if self.newest is None else max(0.0, (self.now - self.newest.started_at).total_seconds())

    @property
    def late(self) -> list[TargetDue]:
        """The targets with a schedule of their own whose copy should be there by now."""
        return [one for one in self.own_schedules if one.is_late(self.now, self.grace)]

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
        *_rooms(evidence), *_damaged(evidence), *_proven(evidence, limits), *_refused(evidence),
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
    results = {name: ended for run in (seen.ended_common, seen.ended) if run for name, ended in run.targets}
    for name, ended in results.items():
        if ended.outcome == "failed":
            yield Trouble(Severity.WARNING, f"{name} failed in the last run: {ended.message}")
    for one in seen.late:
        since, due = iso(one.newest) if one.newest else "", iso(one.since) if one.since else ""
        yield Trouble(Severity.WARNING, f"{one.target} has no backup since {since}, and one was due at {due}")
    if seen.newest is not None and seen.newest.problems:
        yield Trouble(Severity.WARNING, f"{seen.newest.snapshot} lacks something of {seen.newest.problems:,} entries")


def _rooms(seen: PairEvidence) -> Iterator[Trouble]:
    for room in seen.rooms:
        if room.problem:
            yield Trouble(Severity.WARNING, f"{room.target} cannot be used now: {room.problem}")
        has = "has" if room.seen_at is None else f"had at {iso(room.seen_at)}"
        if room.free_inodes == 0:
            yield Trouble(Severity.CRITICAL, f"{room.target} {has} no inode free")
        if room.free is None or room.need is None or room.free >= room.need.likely:
            continue
        is_short = room.free < room.need.usual
        needs = size(room.need.usual if is_short else room.need.likely)
        verb = "needs" if is_short else "may need"
        message = f"{room.target} {has} {size(room.free)} free; the next backup {verb} {needs}"
        yield Trouble(Severity.CRITICAL if is_short else Severity.WARNING, message)


def _damaged(seen: PairEvidence) -> Iterator[Trouble]:
    for copy in seen.damaged:
        yield Trouble(Severity.WARNING, f"{copy.snapshot} on {copy.location} is damaged")


def _refused(seen: PairEvidence) -> Iterator[Trouble]:
    """What another node has done since is not known here then, or somebody forges it."""
    for file, why in seen.refused:
        yield Trouble(Severity.WARNING, f"the catalog {file} is not believed: {why}")


def _proven(seen: PairEvidence, limits: CheckConfig) -> Iterator[Trouble]:
    """Too long ago, counted from the first backup where it never was."""
    for did, at, most in (
        ("verified completely", seen.verified_at, limits.verified), ("drilled", seen.drilled_at, limits.drilled),
    ):  # fmt: skip
        since = at or seen.began
        if most and since is not None and seen.now - since > timedelta(seconds=most):
            rest = f"was last {did} at {iso(at)}" if at else f"has ever been {did}"
            yield Trouble(Severity.WARNING, f"{'a' if at else 'no'} copy {rest}")
