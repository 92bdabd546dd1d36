"""A pair's catalog for the report: five weeks with everything that can go wrong, and names that are hostile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from drbdbackup.catalog.bodies import EndedTarget
from drbdbackup.catalog.history import Activity, TaskKind
from drbdbackup.config.values import CheckConfig
from drbdbackup.exposure import Known, Left, LossKind, Without, left
from drbdbackup.health.judge import PairEvidence, TargetRoom, Thresholds, judge
from drbdbackup.lineage import lineages
from drbdbackup.model.backup import Copy, Outcome, Reach, snapshot_name
from drbdbackup.model.role import Decision, Role, Verdict
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline.copies.known_copies import KnownCopy
from drbdbackup.report.html import page
from drbdbackup.report.html.page import LineageLosses, ReportedResource

NOW = datetime(2026, 11, 28, 13, 58, 55, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTILE = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\" ' & \ud800 \u202e \x1b[2J"


def copy(back: int, target: str = "nas", holder: str = "", **more: object) -> Copy:
    """Of the night so many days ago."""
    made, node = NOW - back * DAY - timedelta(hours=9, minutes=28), "www4" if back < 20 else "www5"
    known = Copy(
        snapshot=snapshot_name(made, node), resource="raid", sequence=10_000 - back, node=node, target=target,
        kind="disk" if holder else "nas", medium=f"{target}{holder}", path=f"/saving/{back}/data", holder=holder,
        location=f"{holder}:/dev/sdb1" if holder else "nas:/backup", started_at=made, finished_at=made, files=48_112,
        bytes=(23 << 30) - (back << 26), manifest_sha256="0" * 64,
    )  # fmt: skip
    return replace(known, **more)


def run(back: int, node: str = "www4", outcome: Outcome = Outcome.COMPLETE, *because: str, **more: object) -> Activity:
    began = NOW - back * DAY - timedelta(hours=9, minutes=28)
    size = (1 << 30) + (back * 37 % 11 << 26)
    done = Activity(
        name=snapshot_name(began, node), what=TaskKind.RUN, resource="raid", node=node, outcome=outcome,
        started_at=began, finished_at=began + timedelta(minutes=4 + back * 7 % 5), because=because,
    )  # fmt: skip
    if outcome is Outcome.COMPLETE:
        ended = EndedTarget(outcome="complete", files=812, bytes=size)
        done = replace(done, files=812, bytes=size, targets=(("nas", ended),))
    return replace(done, **more)


def story() -> list[Activity]:
    """Five weeks of a pair: the newest first."""
    failed = "cannot reach nas:/backup: No route to host"
    told = {
        3: run(3, "www4", Outcome.FAILED, "no target holds the backup", targets=(
            ("nas", EndedTarget(outcome="failed", message=failed, hint="Is the NAS switched on?")),
        )),
        8: run(8, "www4", Outcome.PARTIAL, "2 files could not be read"),
        12: run(12, "www4", Outcome.HELD, "the volume has shrunk from 23 GiB to 1 GiB"),
        17: run(17, "www4", Outcome.REFUSED, "DRBD has given up the link (StandAlone)"),
    }  # fmt: skip
    found = []
    for back in range(35):
        primary, other = ("www4", "www5") if back < 20 else ("www5", "www4")
        found.append(told.get(back, run(back, primary)))
        found += [] if back == 5 else [run(back, other, Outcome.STOOD_DOWN)]
    return found


def reported(done: Sequence[Activity], known: Sequence[KnownCopy], **more: object) -> ReportedResource:
    newest = known[0].copy if known else None
    because = (f"www4 made {copy(0).snapshot}", "www5 was last heard from at 2026-11-28T13:45:00Z")
    seen = PairEvidence(
        resource="raid", now=NOW, verdict=Verdict(decision=Decision.PROCEED, because=(), role=Role.PRIMARY),
        pair=PairVerdict(PairState.OK, because), known=known, newest=newest,
        began=NOW - 40 * DAY,
        rooms=(TargetRoom(target="nas", free=900 << 30, total=2 << 40), TargetRoom(target="disk")),
        verified_at=NOW - 2 * DAY,
    )  # fmt: skip
    copies = [one.copy for one in known]
    cases = [LineageLosses("", tuple(cases_of(copies)))] if copies else []
    due = frozenset((NOW - back * DAY).date() for back in range(35))
    values = {"health": judge(seen, CheckConfig(), Thresholds()), "losses": cases, "lines": lineages(copies)}
    return ReportedResource(**{"done": done, "due": due, **values, **more})  # type: ignore[arg-type]


def cases_of(copies: Sequence[Copy]) -> Iterator[Left]:
    known = Known("www4", NOW, [(one, Reach.YES) for one in copies])
    for gone in (Without(LossKind.NOTHING), Without(LossKind.NODE, "www4"), Without(LossKind.NODE, "www5"),
                 Without(LossKind.TARGET, "nas")):  # fmt: skip
        yield left(known, gone)


def played() -> ReportedResource:
    """The pair of the story."""
    verified = {"verified_at": NOW - 2 * DAY}
    known = [
        KnownCopy(one, Reach.YES) for back in range(12) if back != 3
        for one in (copy(back, **(verified if back == 1 else {})), copy(back, "disk", "www4"))
    ]  # fmt: skip
    return reported(story(), known)


def hostile() -> ReportedResource:
    """Names that would be something else in HTML, long and without a blank."""
    name = HOSTILE + "x" * 200
    ended = EndedTarget(outcome=name, message=name, hint=name)
    failed = run(1, name, Outcome.FAILED, name, targets=((name, ended),), place=name)
    return reported([failed], [KnownCopy(copy(0, location=name, note=name, pinned_at=NOW), Reach.YES)])


def html(*found: ReportedResource) -> str:
    return page.html("www4", ("www4", "www5"), found, NOW).decode()
