"""What is started is heard only so far."""

from __future__ import annotations

import pytest

from drbdbackup import proc
from drbdbackup.errors import ToolError


def test_a_program_that_says_too_much_is_ended() -> None:
    with pytest.raises(ToolError, match=r"yes said more than 1,000,000 bytes"):
        proc.run(proc.Command(("yes",), most=1_000_000))


def test_what_a_program_complains_of_is_kept_only_at_its_end() -> None:
    told = proc.run(proc.Command(("sh", "-c", "head -c 10000000 /dev/zero >&2; echo end >&2; echo answer")))
    assert told.out == b"answer\n"
    assert told.err.endswith(b"end\n")
    assert len(told.err) < 1 << 20
