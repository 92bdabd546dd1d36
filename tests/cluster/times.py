"""Where the time of the lab goes: into beginnings, waits and commands, scenario by scenario.

Whatever takes time notes it here. At the end of a session the table is printed, and every note is in .lab-times:

    scenario <tab> second of it <tab> seconds <tab> kind <tab> what
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

KINDS = ("beginning", "wait", "drbdbackup", "command")  # a second that is in two of them counts for the first
FILE = Path(__file__).parents[2] / ".lab-times"


class Note(NamedTuple):
    """Something that took from `began` to `ended`, in seconds since its scenario began."""

    began: float
    ended: float
    kind: str
    what: str


class Spent(NamedTuple):
    """What a scenario took; `processor` is what its machines used of the host's, in seconds."""

    scenario: str
    seconds: float
    processor: float
    notes: list[Note]


@dataclass
class Notebook:
    """The notes of one scenario at a time; threads may write into it at once."""

    began: float = field(default_factory=time.monotonic)
    notes: list[Note] = field(default_factory=list)

    def begin(self) -> None:
        self.began = time.monotonic()
        self.notes = []

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @contextmanager
    def noted(self, kind: str, what: str) -> Iterator[None]:
        began = self.seconds
        try:
            yield
        finally:
            self.notes.append(Note(began, self.seconds, kind, what))


NOTEBOOK = Notebook()


def by_kind(notes: Iterable[Note]) -> dict[str, float]:
    """Seconds of each kind, each second counted once, whatever else went on in it."""
    found, counted = {}, 0.0
    covered: list[Note] = []
    for kind in KINDS:
        covered += [note for note in notes if note.kind == kind]
        found[kind] = length(covered) - counted
        counted += found[kind]
    return found


def length(notes: Iterable[Note]) -> float:
    """Seconds in which at least one of them went on."""
    total, until = 0.0, 0.0
    for note in sorted(notes):
        total += max(0.0, note.ended - max(note.began, until))
        until = max(until, note.ended)
    return total


def table(scenarios: Iterable[Spent]) -> Iterator[str]:
    """A line a scenario, the longest first."""
    yield " ".join(f"{head:>10}" for head in ("seconds", "processor", *KINDS)) + "  scenario"
    for one in sorted(scenarios, key=lambda spent: -spent.seconds):
        columns = (one.seconds, one.processor, *by_kind(one.notes).values())
        yield " ".join(f"{seconds:10.1f}" for seconds in columns) + f"  {one.scenario}"


def keep(scenarios: Iterable[Spent], file: Path = FILE) -> None:
    """Every note, in the file that the docstring of this module describes."""
    with file.open("w") as out:
        for one in scenarios:
            for note in sorted(one.notes):
                seconds = (f"{number:.1f}" for number in (note.began, note.ended - note.began))
                what = note.what.replace("\n", " ; ").replace("\t", " ")
                print(one.scenario, *seconds, note.kind, what, sep="\t", file=out)
