"""A table for a terminal, drawn with rich. It knows no run and no diagnosis: only heads, cells and styles."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from drbdbackup.report.console import CAREFUL

Cell = tuple[str, str]  # what it says, all of it printable, and its style ("" for none)


def draw(heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, above: str = "", below: str = "") -> None:
    """Print the table, or nothing where it has no rows, with a line `above` and `below` it."""
    console = Console(highlight=False, file=CAREFUL)
    if above:
        console.print(Text(above))
    if rows:
        table = Table(*heads)
        for cells in rows:
            table.add_row(*(Text(said, style=style) for said, style in cells))
        console.print(table)
    if below:
        console.print(Text(below))
