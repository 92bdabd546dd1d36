"""Undo is the reverse of do, and the first error is the one that is told."""

from __future__ import annotations

import os
import signal

import pytest

from drbdbackup import stages
from drbdbackup.errors import TargetError, WrongTarget


def test_when_both_the_block_and_the_unmounting_fail_the_blocks_error_is_told_with_the_other_as_a_note():
    with pytest.raises(WrongTarget) as told, stages.undone(lambda: fail(TargetError("busy")), "unmounting /saving"):
        raise WrongTarget("not it")
    assert told.value.__notes__ == ["unmounting /saving failed too: busy"]


def test_a_failing_unmount_alone_is_an_error():
    with pytest.raises(TargetError, match="busy"), stages.undone(lambda: fail(TargetError("busy")), "unmounting"):
        pass


def test_a_step_tells_when_it_begins_and_ends_and_notes_what_failed_in_it():
    told: list[str] = []
    with stages.step("mount", told.append):
        told.append("body")
    with pytest.raises(TargetError) as failed, stages.step("copy", told.append):
        raise TargetError("full")
    assert told == ["mount", "body", "mount done", "copy"]
    assert failed.value.__notes__ == ["during: copy"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_and_a_further_one_does_not_end_its_undoing(signum: signal.Signals):
    undone: list[str] = []
    before = signal.getsignal(signum)

    def undo() -> None:
        os.kill(os.getpid(), signum)
        undone.append("unmounted")

    with pytest.raises(SystemExit) as told, stages.stoppable(), stages.undone(undo, "unmounting"):
        os.kill(os.getpid(), signum)
    assert undone == ["unmounted"]
    assert told.value.code == 143
    assert signal.getsignal(signum) == before


def fail(error: Exception) -> None:
    raise error
