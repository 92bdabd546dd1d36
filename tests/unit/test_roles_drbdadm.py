from __future__ import annotations

from pathlib import Path

import pytest

from drbdbackup.errors import ToolError
from drbdbackup.model.role import Role
from drbdbackup.proc import Result
from drbdbackup.roles import drbdadm, events2
from drbdbackup.tools import drbd
from tests.captured import CAPTURES, EVENTS2, Capture, play

ANSWERED = [capture for capture in CAPTURES if capture.role.exit == 0]
SILENT = [capture for capture in CAPTURES if capture.role.exit not in {0, 127}]


@pytest.mark.parametrize("capture", ANSWERED, ids=str)
def test_drbdadm_and_events2_see_the_same_role_in_each_captured_state(capture: Capture):
    seen = drbdadm.parse(capture.role.out, "raid")
    assert seen.role is events2.parse(capture.events2, "raid").role is capture.expected.role


@pytest.mark.parametrize("capture", SILENT, ids=str)
def test_each_captured_refusal_is_named_by_its_cause(capture: Capture):
    problem, hint = drbd.why_not("raid", Result(capture.role.exit, b"", capture.role.err.encode()))
    causes = {"26": "a mistake: drbd.d/raid.res:2: Parse error", "27": "raid is not configured in DRBD"}
    assert causes.get(capture.state[:2], "raid is configured in DRBD but down") in problem
    assert hint


def test_a_cause_that_is_not_known_is_told_as_it_was_said():
    problem, _ = drbd.why_not("raid", Result(11, b"", b"Moon in\nthe wrong \xff quarter"))
    assert problem == "DRBD does not report the role of raid: Moon in the wrong \\xff quarter"
    assert "exit status 11" in drbd.why_not("raid", Result(11, b"", b""))[0]


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_every_captured_drbdsetup_knows_events2(capture: Capture):
    answer = capture.answers[EVENTS2]
    assert drbd.knows_events2(Result(answer.exit, answer.out.encode(), answer.err.encode()))


def test_the_drbdsetup_of_8_3_does_not_know_events2():
    assert not drbd.knows_events2(Result(20, b"\nUSAGE: drbdsetup command device arguments options\n", b""))


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("Secondary/Primary\n", Role.SECONDARY),
        ("Primary/Unknown\n", Role.PRIMARY),
        ("Primary\n", Role.PRIMARY),
        ("Primary/Secondary\nPrimary/Secondary\n", Role.PRIMARY),
        ("Primary/Secondary\nSecondary/Primary\n", Role.UNKNOWN),
        ("Unknown/Unknown\n", Role.UNKNOWN),
        ("Unconfigured\n", Role.UNKNOWN),
        ("Primary/Second\n", Role.UNKNOWN),
        ("Primary", Role.UNKNOWN),
        ("Primary/\n", Role.UNKNOWN),
        ("/Primary\n", Role.UNKNOWN),
        ("\n", Role.UNKNOWN),
        ("", Role.UNKNOWN),
    ],
)
def test_this_node_comes_first_and_all_volumes_must_agree(text: str, role: Role):
    seen = drbdadm.parse(text, "raid")
    assert seen.role is role
    assert bool(seen.problem) is (role is Role.UNKNOWN)


@pytest.mark.parametrize(
    ("names", "number", "minor"),
    [
        (("/dev/drbd0",), "", 0),
        (("/dev/drbd/by-res/raid/0", "/dev/drbd12"), "", 12),
        (("/dev/drbd0",), "147:3", 3),
        (("/dev/mapper/vg-web",), "253:0", None),
        (("/dev/mapper/vg-web", "/dev/dm-0"), "", None),
        (("/dev/drbd0p1",), "", None),
        ((), "", None),
    ],
)
def test_the_minor_of_a_device_comes_from_its_number_or_else_its_name(names, number, minor):
    assert drbd.minor(names, number) == minor


def test_a_device_without_its_disk_is_an_error_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    script = 'case "$1" in sh-dev) echo /dev/drbd0; echo /dev/drbd1 ;; *) cat "${0%/*}/below" ;; esac'
    play(tmp_path / "drbdadm", f"#!/bin/sh\n{script}\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "below").write_text("/dev/vg0/raid\nnone\n")
    assert drbd.disks("raid", 5.0) == {"/dev/drbd0": "/dev/vg0/raid", "/dev/drbd1": "none"}
    (tmp_path / "below").write_text("/dev/vg0/raid\n")
    with pytest.raises(ToolError, match="2 devices of raid, and 1 disks"):
        drbd.disks("raid", 5.0)
