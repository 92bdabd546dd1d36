"""What `doctor` found, for people: in colour on a terminal, plain lines elsewhere; and as a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from drbdbackup.report import console, text

if TYPE_CHECKING:
    from drbdbackup.doctor.examine import Diagnosis

COLOURS = {"OK": 32, "WARN": 33, "FAIL": 31}


def show(diagnosis: Diagnosis) -> None:
    """All items, and below each that is not OK what to do."""
    console.say(plain(diagnosis), paint=painted if console.has_colours() else str, wraps=True)


def painted(line: str) -> str:
    """A line of these, with its state in colour."""
    state = line.partition(" ")[0]
    return f"\033[{COLOURS[state]}m{state}\033[0m{line[len(state) :]}" if state in COLOURS else line


def plain(diagnosis: Diagnosis) -> Iterator[str]:
    """A line for each item, what to do indented below it."""
    rows = [(one.state.name, one.check, one.about, text.localised(one.because)) for one in diagnosis.findings]
    for line, one in zip(text.aligned(rows), diagnosis.findings, strict=True):
        yield line
        first, *more = text.lines(one.remedy).split("\n")
        if first:
            yield f"      -> {first}"
        yield from (f"         {line}" for line in more)
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
