"""Undo is the reverse of do, and the first error is the one that is told."""

from __future__ import annotations

import pytest

from drbdbackup import temporary_mounts
from drbdbackup.errors import TargetError, WrongTarget


def test_when_both_the_block_and_the_unmounting_fail_the_blocks_error_is_told_with_the_other_as_a_note():
    unmounting = temporary_mounts.undone(lambda: fail(TargetError("busy")), "unmounting /saving")
    with pytest.raises(WrongTarget) as told, unmounting:
        raise WrongTarget("not it")
    assert told.value.__notes__ == ["unmounting /saving failed too: busy"]


def test_a_failing_unmount_alone_is_an_error():
    unmounting = temporary_mounts.undone(lambda: fail(TargetError("busy")), "unmounting")
    with pytest.raises(TargetError, match="busy"), unmounting:
        pass


def fail(error: Exception) -> None:
    raise error
