"""Real rsync brings exactly what a list names, and lets in exactly what its rules allow, whatever the names are."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drbdbackup.tools import rsync

HOLDS = rsync.Holds(owners=False, acls=False, xattrs=False)
names = st.one_of(
    st.text("ab*?[]\\#;+- .!\n\t^", min_size=1, max_size=8).map(os.fsencode),
    st.binary(min_size=1, max_size=20),
).filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
BUDGET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def made(folder: bytes, entries: set[bytes]) -> None:
    """A folder of each name, with a file of each name in it."""
    for one in entries:
        os.mkdir(os.path.join(folder, one))
        for other in entries:
            Path(os.fsdecode(os.path.join(folder, one, other))).touch()


def found(folder: bytes) -> set[bytes]:
    return {
        os.path.relpath(os.path.join(at, name), folder) for at, *both in os.walk(folder) for some in both
        for name in some
    }  # fmt: skip


def by_a_list(at: str, others: set[bytes], wanted: bytes) -> tuple[tuple[str, ...], set[bytes]]:
    """The command that brings an entry and one in it, as a restore does; what then has to be there."""
    asked, listing = {wanted, wanted + b"/" + wanted}, f"{at}/listing"
    Path(listing).write_bytes(rsync.listing(sorted(asked)))
    return rsync.restoring(f"{at}/source/", f"{at}/target", HOLDS, over=False, listing=listing).argv, asked


def by_rules(at: str, others: set[bytes], wanted: bytes) -> tuple[tuple[str, ...], set[bytes]]:
    """The command that brings an entry with all that is in it, as one whose peer takes no list."""
    Path(f"{at}/rules").write_bytes(rsync.only_below(wanted))
    argv = ("rsync", "--recursive", "--from0", f"--exclude-from={at}/rules", "--", f"{at}/source/", f"{at}/target")
    return argv, {wanted} | {wanted + b"/" + name for name in others | {wanted}}


@pytest.mark.parametrize("asked", [by_a_list, by_rules])
@example(others={b"a*", b"a\\*", b"ab"}, wanted=b"a*")
@example(others={b"a[b]", b"ab", b"a\\"}, wanted=b"a[b]")
@example(others={b"\\", b"\\\\", b"?"}, wanted=b"\\")
@example(others={b"a\\b*", b"a\\\\b*", b"ab*"}, wanted=b"a\\b*")
@example(others={b"# x", b"; x", b" x ", b"- x", b"new\nline", b"\xff\xfe", b"!"}, wanted=b"# x")
@given(others=st.sets(names, max_size=5), wanted=names)
@BUDGET
def test_what_is_asked_for_comes_and_nothing_else(
    asked: Callable[[str, set[bytes], bytes], tuple[tuple[str, ...], set[bytes]]], others: set[bytes], wanted: bytes
) -> None:
    with tempfile.TemporaryDirectory() as at:
        source, target = (os.fsencode(at) + b"/" + name for name in (b"source", b"target"))
        os.mkdir(source)
        made(source, others | {wanted})
        argv, there = asked(at, others, wanted)
        subprocess.run(argv, check=True, capture_output=True, timeout=30)
        assert found(target) == there
