"""No run is called complete that was not."""

from __future__ import annotations

from drbdbackup.errors import TargetError
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.backup.order import TargetResult
from drbdbackup.pipeline.backup.run import outcome_of

DONE = TargetResult(name="disk", done=True)


def test_a_run_is_complete_if_every_target_said_that_it_is_done() -> None:
    assert outcome_of([DONE, TargetResult(name="nas", done=True)]) is Outcome.COMPLETE


def test_a_target_that_ended_without_a_word_is_not_done() -> None:
    assert outcome_of([DONE, TargetResult(name="nas")]) is Outcome.FAILED


def test_neither_is_one_that_failed_or_lacks_files() -> None:
    assert outcome_of([DONE, TargetResult(name="nas", error=TargetError("no"), done=True)]) is Outcome.FAILED
    assert outcome_of([DONE, TargetResult(name="nas", problem_count=1, done=True)]) is Outcome.FAILED
