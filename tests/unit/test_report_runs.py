"""What a run says on stderr: every problem that is news, with its hint, and the first files with problems."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drbdbackup.commands.run import Attempt, RunAnswer, worst
from drbdbackup.errors import CatalogError, DrbdBackupError, Interrupted, NotMounted, Stopped, Terminated
from drbdbackup.model.backup import Copy, Outcome
from drbdbackup.model.problem import Problem
from drbdbackup.model.role import Decision, Role, Verdict
from drbdbackup.pipeline.backup.order import TargetResult
from drbdbackup.pipeline.backup.run import RunResult
from drbdbackup.report import runs

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
PROCEED = Verdict(decision=Decision.PROCEED, because=("raid is Primary here",), role=Role.PRIMARY)
REFUSE = Verdict(
    decision=Decision.REFUSE, because=("nothing is mounted at /srv/raid",), role=Role.PRIMARY, hint="Mount it."
)
COPY = Copy(
    snapshot="20261123T043000Z-www4", resource="raid", sequence=1, node="www4", target="nas", kind="nas",
    medium="0" * 32, location="nas:/backup", holder="", path="/backup/data", started_at=NOW, finished_at=NOW, files=10,
    bytes=1000,
)  # fmt: skip


def attempt(outcome: Outcome, *targets: TargetResult, error: DrbdBackupError | None = None) -> Attempt:
    verdict = REFUSE if outcome is Outcome.REFUSED else PROCEED
    return Attempt(
        "raid",
        RunResult(
            resource="raid",
            outcome=outcome,
            verdict=verdict,
            snapshot=COPY.snapshot,
            started_at=NOW,
            finished_at=NOW,
            targets=targets,
            error=error,
        ),
    )


def failed(name: str) -> TargetResult:
    return TargetResult(name=name, error=NotMounted(f"nothing is mounted at /{name}", f"Mount it: `mount /{name}`"))


@pytest.mark.parametrize(("outcome", "error", "status"), [
    (Outcome.COMPLETE, None, 0), (Outcome.STOOD_DOWN, None, 0), (Outcome.PARTIAL, None, 3), (Outcome.HELD, None, 3),
    (Outcome.REFUSED, None, 4), (Outcome.FAILED, None, 1), (Outcome.INTERRUPTED, Interrupted("unmounted"), 7),
    (Outcome.INTERRUPTED, Stopped("stopped"), 130), (Outcome.INTERRUPTED, Terminated("stopped"), 143),
])  # fmt: skip
def test_every_outcome_has_its_exit_status(outcome: Outcome, error: DrbdBackupError | None, status: int) -> None:
    assert attempt(outcome, error=error).status == status


def test_an_alarm_does_not_hide_what_a_replication_lacks() -> None:
    assert [worst(statuses) for statuses in ([], [8, 3], [3, 8, 0], [8, 0, 7], [1, 4])] == [0, 3, 3, 7, 1]


def test_of_several_resources_the_worst_counts() -> None:
    outcomes = [Outcome.COMPLETE, Outcome.PARTIAL, Outcome.FAILED, Outcome.REFUSED]
    assert RunAnswer(tuple(attempt(outcome) for outcome in outcomes)).status == 1
    assert RunAnswer(()).status == 0


def test_an_error_before_the_run_has_its_own_exit_status() -> None:
    assert Attempt("raid", error=CatalogError("broken")).status == 1


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.STOOD_DOWN])
def test_what_is_well_is_silent(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    runs.complain([attempt(outcome, TargetResult(name="nas", copy=COPY))])
    assert capsys.readouterr() == ("", "")


def test_a_refusal_is_told_with_its_reasons_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    runs.complain([attempt(Outcome.REFUSED)])
    told = "drbdbackup: raid: refused: nothing is mounted at /srv/raid\n  Mount it.\n"
    assert capsys.readouterr() == ("", told)


def test_what_was_told_before_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    again = Attempt("raid", verdict=REFUSE, is_reported=True)
    runs.complain([again])
    assert capsys.readouterr() == ("", "")
    assert again.status == 4


def test_each_target_that_failed_is_told_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    runs.complain([attempt(Outcome.PARTIAL, TargetResult(name="nas", copy=COPY), failed("disk"))])
    told = "drbdbackup: raid: disk: nothing is mounted at /disk\n  Mount it: `mount /disk`\n"
    assert capsys.readouterr().err == told


def test_files_with_problems_are_counted_and_the_first_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem(f"odd\n\x1b[31m{number:02}\udcff", "Input/output error") for number in range(12)]
    runs.complain(
        [attempt(Outcome.PARTIAL, TargetResult(name="nas", copy=COPY, problems=problems, problem_count=1200))]
    )
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "drbdbackup: raid: nas: 1,200 files with problems"
    assert told[1] == "  odd\\n\\x1b[31m00\\xff: Input/output error"
    assert told[-1] == "  and 1,190 more, in the snapshot's snapshot.json"
    assert len(told) == 12


def test_without_a_terminal_the_closing_words_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    runs.closing(
        [attempt(Outcome.PARTIAL, TargetResult(name="nas", copy=COPY, notes=("nas cannot hold ACLs",)), failed("disk"))]
    )
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("raid: partial, 20261123T043000Z-www4, ")
    assert told[1].split()[:2] == ["nas", "complete"]
    assert told[1].endswith("nas cannot hold ACLs")
    assert told[2].split()[:2] == ["disk", "failed"]
