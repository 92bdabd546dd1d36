"""What was measured, against what was promised: a row each, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One promise: `ours` and `theirs` are pairs taken side by side, in seconds or MiB; the goal is for their ratio,
    or for `ours` alone where there is no `theirs`; None where nothing was promised. `beside` is told with it.
    """

    name: str
    goal: float | None
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    unit: str = "s"
    beside: str = ""

    @property
    def figure(self) -> float:
        """The median of the ratios of the pairs, or of our figures."""
        if not self.theirs:
            return median(self.ours)
        return median(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.figure <= self.goal

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name, "goal": self.goal, "measured": round(self.figure, 3), "met": self.is_met,
            "unit": self.unit, "ours": [round(one, 4) for one in self.ours],
            "theirs": [round(one, 4) for one in self.theirs], "beside": self.beside,
        }  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = [("", "rounds", "ours", "theirs", "measured", "goal", "")]
    for row in rows:
        is_ratio = bool(row.theirs)
        ours, theirs = _amount(row.ours, row.unit), _amount(row.theirs, row.unit) if is_ratio else ""
        sign = "x" if is_ratio else f" {row.unit}"
        goal, met = ("", "") if row.goal is None else (f"{row.goal:g}{sign}", "met" if row.is_met else "MISSED")
        lines.append((row.name, str(len(row.ours)), ours, theirs, f"{row.figure:.2f}{sign}", goal, met))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    beside = ("", *(row.beside for row in rows))
    return "\n".join(f"{_line(line, widths)}  {more}".rstrip() for line, more in zip(lines, beside, strict=True))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _amount(figures: Sequence[float], unit: str) -> str:
    middle = median(figures)
    return f"{middle * 1000:.0f} ms" if unit == "s" and middle < 0.5 else f"{middle:.2f} {unit}"
