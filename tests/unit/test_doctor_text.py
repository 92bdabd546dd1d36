"""What the doctor prints where there is no terminal."""

from __future__ import annotations

from drbdbackup.doctor.examine import Diagnosis
from drbdbackup.doctor.finding import Finding, FindingState
from drbdbackup.report.diagnosis import plain


def test_advice_of_several_lines_stays_lines() -> None:
    findings = (
        Finding("peer", "www5", FindingState.FAIL, "it is closed", "ssh www5\nand look\t"),
        Finding("node", "www4", FindingState.OK, "it is one"),
    )
    assert list(plain(Diagnosis("www4", findings))) == [
        "FAIL  peer  www5  it is closed",
        "      -> ssh www5",
        "         and look\\t",
        "OK    node  www4  it is one",
        "www4: 1 FAIL, 0 WARN, 1 OK",
    ]
