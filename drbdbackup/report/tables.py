"""Tables for a terminal, drawn with rich."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drbdbackup.commands.run import Attempt
from drbdbackup.doctor.examine import Diagnosis
from drbdbackup.report.diagnosis import COLOURS
from drbdbackup.report.runs import row
from drbdbackup.report.text import lines, printable

_COLOURS = {"complete": "green", "failed": "red", "not copied": "red"}


def run_table(attempt: Attempt, title: str) -> None:
    """The closing table of a run: a line for each target. One that stood down has only its title."""
    console = Console(highlight=False)
    console.print(escape(printable(title)))
    if attempt.result is None or not attempt.result.targets:
        return
    table = Table("target", "outcome", "copied", "notes")
    for target in attempt.result.targets:
        cells = [escape(printable(cell)) for cell in row(target, attempt.result.dry_run)]
        table.add_row(*cells, style=_COLOURS.get(cells[1]))
    console.print(table)


def diagnosis_table(diagnosis: Diagnosis, total: str) -> None:
    """What `doctor` found: a line for each item, what to do below what is not OK."""
    table = Table("", "check", "about", "because", title=None)
    for one in diagnosis.findings:
        told = one.because + (f"\n-> {one.remedy}" if one.remedy else "")
        colour = COLOURS[one.state.value]
        cells = [escape(lines(cell)) for cell in (one.check, one.about, told)]
        table.add_row(f"[{colour}]{one.state.name}[/{colour}]", *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print(escape(printable(total)))
