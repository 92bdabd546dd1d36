"""What of a pair's evidence is a warning and what is critical, and how a plugin says so."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.catalog.bodies import EndedTarget, Run
from drbdbackup.commands.monitoring.check import thresholds
from drbdbackup.config.values import CheckConfig
from drbdbackup.doctor.media import Need
from drbdbackup.due import TargetDue
from drbdbackup.errors import UsageError
from drbdbackup.health.judge import PairEvidence, Severity, TargetRoom, Thresholds, judge
from drbdbackup.model.backup import Copy, Outcome, Reach
from drbdbackup.model.restoring import RestoreStage, Restoring
from drbdbackup.model.role import Decision, Role, Verdict
from drbdbackup.oversight import PairState, PairVerdict
from drbdbackup.pipeline.copies.known_copies import KnownCopy
from drbdbackup.report.monitoring import plugin

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAYS = timedelta(days=1)
COPY = Copy(
    snapshot="20261129T043000Z-www4", resource="raid", sequence=3, node="www4", target="nas", kind="nas", medium="m",
    location="nas:/backup", holder="", path="/backup/raid/20261129T043000Z-www4/data",
    started_at=NOW - timedelta(hours=5), finished_at=NOW - timedelta(hours=4), files=10, bytes=1000,
    verified_at=NOW - DAYS,
)  # fmt: skip
FAILED = EndedTarget(outcome="failed", message="away")
RUN = Run(
    name=COPY.snapshot, resource="raid", node="www4", outcome=Outcome.COMPLETE, started_at=COPY.started_at,
    finished_at=COPY.finished_at, targets=(("nas", EndedTarget(outcome="complete")),),
)  # fmt: skip
HALF = Restoring(
    name="r", resource="raid", node="www4", stage=RestoreStage.REPLACING, snapshot=COPY.snapshot, path="", begun_at=NOW
)
NEED = Need(100, 400, full=False)
WELL = PairEvidence(
    resource="raid", now=NOW, verdict=Verdict(decision=Decision.PROCEED, because=("it is",), role=Role.PRIMARY),
    pair=PairVerdict(PairState.OK, ("www4 made it",)), known=[KnownCopy(COPY, Reach.YES)], newest=COPY, ended=RUN,
    began=NOW - 100 * DAYS, verified_at=COPY.verified_at,
    rooms=[TargetRoom(target="nas", free=5000, total=9000, need=NEED), TargetRoom(target="disk")],
)  # fmt: skip


LAST_USED = TargetRoom(
    target="disk", free=400, total=9000, need=NEED, free_inodes=7, seen_at=NOW - timedelta(hours=1)
)  # fmt: skip
NO_AGES, LIMITS = Thresholds(), CheckConfig()


def found(limits: CheckConfig = LIMITS, ages: Thresholds = NO_AGES, **changes: Any) -> list[tuple[str, str]]:
    health = judge(replace(WELL, **changes), limits, ages)
    return [(one.severity.name, one.what) for one in health.troubles]


def test_nothing_is_found_where_all_is_well() -> None:
    assert found() == []
    assert judge(WELL, CheckConfig(), Thresholds()).severity is Severity.OK


@pytest.mark.parametrize(("severity", "word", "changes"), [
    ("CRITICAL", "nobody", {"pair": PairVerdict(PairState.CRITICAL, ("nobody has made it",))}),
    ("WARNING", "has never run", {"pair": PairVerdict(PairState.WARNING, ("www5 has never run",))}),
    ("CRITICAL", "half restored", {"restoring": HALF}),
    ("WARNING", "services", {"restoring": replace(HALF, stage=RestoreStage.RESTORED)}),
    ("WARNING", "refused", {"verdict": Verdict(decision=Decision.REFUSE, because=("?",), role=Role.UNKNOWN)}),
    ("WARNING", "volume 1", {"verdict": replace(WELL.verdict, left_out=("volume 1 is not backed up",))}),
    ("WARNING", "nas failed", {"ended": replace(RUN, targets=(("nas", FAILED),))}),
    ("WARNING", "nas failed", {
        "ended": replace(RUN, targets=(("offsite", EndedTarget(outcome="complete")),)),
        "ended_common": replace(RUN, targets=(("nas", FAILED),)),
    }),
    ("WARNING", "one was due", {"own_schedules": [TargetDue("offsite", NOW + DAYS, NOW - DAYS, NOW - 8 * DAYS)]}),
    ("WARNING", "2 entries", {"newest": replace(COPY, problems=2)}),
    ("WARNING", "not mounted", {"rooms": [TargetRoom(target="nas", problem="not mounted")]}),
    ("WARNING", "may need", {"rooms": [TargetRoom(target="nas", free=300, total=9000, need=NEED)]}),
    ("CRITICAL", "needs", {"rooms": [TargetRoom(target="nas", free=99, total=9000, need=NEED)]}),
    ("CRITICAL", "had at 2026-11-29T11:00:00Z", {"rooms": [replace(LAST_USED, free=99)]}),
    ("CRITICAL", "no inode free", {"rooms": [replace(LAST_USED, free_inodes=0)]}),
    ("WARNING", "may need", {"rooms": [replace(LAST_USED, free=399)]}),
    ("WARNING", "is damaged", {"known": [KnownCopy(replace(COPY, damaged_at=NOW), Reach.YES)]}),
    ("WARNING", "was last verified", {"verified_at": NOW - 46 * DAYS}),
    ("WARNING", "has ever been verified", {"verified_at": None}),
])  # fmt: skip
def test_each_thing_is_found_by_itself(severity: str, word: str, changes: dict[str, Any]) -> None:
    [(told, what)] = found(**changes)
    assert told == severity
    assert word in what


def test_a_restore_that_goes_on_here_is_none() -> None:
    assert found(restoring=HALF, is_restoring_here=True) == []


def test_a_new_pair_need_not_be_verified_yet() -> None:
    assert found(verified_at=None, began=NOW - 44 * DAYS) == []
    assert found(verified_at=None, began=None, newest=None, known=[]) == []


def test_drills_are_watched_where_the_configuration_says_so() -> None:
    assert found(drilled_at=NOW - 900 * DAYS) == []
    month = CheckConfig(drilled=30 * 86400.0)
    assert found(month, drilled_at=NOW - 29 * DAYS) == []
    assert found(month, drilled_at=NOW - 31 * DAYS)[0][0] == "WARNING"
    assert found(month, drilled_at=None)[0][0] == "WARNING"


def test_the_age_counts_against_what_was_asked_for() -> None:
    hours = 3600.0
    assert found(ages=Thresholds(6 * hours, 7 * hours)) == []
    assert [one for one, _ in found(ages=Thresholds(4 * hours, 6 * hours))] == ["WARNING"]
    assert [one for one, _ in found(ages=Thresholds(3 * hours, 4 * hours))] == ["CRITICAL"]


def test_the_worst_comes_first_and_nothing_is_left_out() -> None:
    told = found(verified_at=None, restoring=HALF, rooms=[TargetRoom(target="nas", problem="x")])
    assert [one for one, _ in told] == ["CRITICAL", "WARNING", "WARNING"]


def test_ages_are_seconds_or_durations() -> None:
    assert thresholds("93600", "50h") == Thresholds(93600.0, 180000.0)
    assert thresholds(None, "1.5") == Thresholds(None, 1.5)
    for wrong in (("x", None), ("0", None), (None, "-5"), ("2h", "1h"), ("\u00b2", None)):
        with pytest.raises(UsageError):
            thresholds(*wrong)


def test_the_first_line_has_every_measure_in_quotes() -> None:
    first, *more = plugin.nagios([judge(WELL, CheckConfig(), Thresholds())], Thresholds(93600.0, 180000.0))
    assert first.startswith("DRBDBACKUP OK - raid: 20261129T043000Z-www4 on nas, 5 h ago | ")
    assert re.findall(r"('[^']+')=(\S+)", first.partition("| ")[2]) == [
        ("'raid age'", "18000s;93600;180000;0"), ("'raid copies'", "1;;;0"), ("'raid damaged'", "0;;;0"),
        ("'raid nas free'", "5000B;400:;100:;0;9000"),
    ]  # fmt: skip
    assert more
    assert all(line.startswith("raid: ") for line in more)


def test_what_was_left_on_a_disk_is_told_with_its_time() -> None:
    health = judge(replace(WELL, rooms=[LAST_USED]), CheckConfig(), Thresholds())
    assert health.severity is Severity.OK
    first, *more = plugin.nagios([health], Thresholds())
    assert "'raid disk free'=400B;400:;100:;0;9000" in first
    assert more[-1].endswith("at its last use, 1 h ago")
    [told] = plugin.document([health])["resources"][0]["targets"]
    assert (told["free_bytes"], told["free_inodes"], told["seen_at"]) == (400, 7, "2026-11-29T11:00:00Z")


def test_what_a_disk_says_neither_ends_the_line_nor_begins_measures() -> None:
    odd = judge(replace(WELL, rooms=[TargetRoom(target="nas", problem="a|b\nc\x1b[1m")]), CheckConfig(), Thresholds())
    lines = list(plugin.nagios([odd], Thresholds()))
    assert lines[0].count("|") == 1
    assert "a/b; c\\x1b" in lines[0]
    [line] = plugin.checkmk([odd], Thresholds())
    state, _, rest = line.partition(" ")
    name, measures, _ = re.fullmatch(r'"([^"]+)" (\S+) (.+)', rest).groups()  # type: ignore[union-attr]
    assert (state, name) == ("1", "drbdbackup raid")
    assert measures == "age=18000;;;0|copies=1;;;0|damaged=0;;;0"
    assert not any("\n" in line for line in plugin.failed("one\ntwo", "three\nfour", as_checkmk=False))


def test_with_several_resources_the_worst_counts() -> None:
    well = judge(WELL, CheckConfig(), Thresholds())
    bad = judge(replace(WELL, resource="mail", restoring=HALF), CheckConfig(), Thresholds())
    assert plugin.status([well, bad]) == 2
    first = next(plugin.nagios([well, bad], Thresholds()))
    assert first.startswith("DRBDBACKUP CRITICAL - raid: ")
    assert "; mail: a restore from" in first
    assert plugin.document([well, bad])["status"] == 2
