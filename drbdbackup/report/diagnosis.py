"""What `doctor` found, for people: in colour on a terminal, plain lines elsewhere; and as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drbdbackup.report import console, text

if TYPE_CHECKING:
    from drbdbackup.doctor.examine import Diagnosis

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def show(diagnosis: Diagnosis) -> None:
    """All items, and below each that is not OK what to do."""
    if not console.on_terminal():
        return console.say(plain(diagnosis))
    from drbdbackup.report.tables import draw

    rows = []
    for one in diagnosis.findings:
        told = one.because + (f"\n-> {one.remedy}" if one.remedy else "")
        plain_cells = [(text.lines(cell), "") for cell in (one.check, one.about, told)]
        rows.append([(one.state.name, COLOURS[one.state.value]), *plain_cells])
    return draw(("", "check", "about", "because"), rows, below=text.printable(total(diagnosis)))


def plain(diagnosis: Diagnosis) -> Iterator[str]:
    """A line for each item, what to do indented below it."""
    rows = [(one.state.name, one.check, one.about, one.because) for one in diagnosis.findings]
    for line, one in zip(text.aligned(rows), diagnosis.findings, strict=True):
        yield line
        if one.remedy:
            yield f"      -> {text.printable(one.remedy)}"
    yield total(diagnosis)


def total(diagnosis: Diagnosis) -> str:
    """How many of each."""
    count = Counter(one.state.name for one in diagnosis.findings)
    return f"{diagnosis.node}: {count['FAIL']} FAIL, {count['WARN']} WARN, {count['OK']} OK"


def document(diagnosis: Diagnosis) -> dict[str, Any]:
    """`doctor --json`."""
    return {
        "node": diagnosis.node,
        "checks": [
            {
                "check": one.check, "about": one.about or None, "state": one.state.value, "because": one.because,
                "remedy": one.remedy,
            }
            for one in diagnosis.findings
        ],
    }  # fmt: skip
