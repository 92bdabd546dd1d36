"""Plain words for people: times, sizes, aligned columns. Pure, and instant: the standard library only.

Names come from disks and from other nodes: what a terminal would act on is written as an escape, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from drbdbackup.model.amount import count as count
from drbdbackup.model.amount import size as size

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def printable(text: str) -> str:
    """The text with everything that is no printable character escaped; bytes that are no UTF-8 as `\\xff`."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def span(seconds: float) -> str:
    """A length of time in one unit: `40 s`, `3 min`, `5 h`, `2 days`."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR:.0f} h"
    return f"{seconds // _DAY:.0f} days"


def age(moment: datetime, now: datetime) -> str:
    """How long ago it was: `3 min ago`; a clock that is ahead shows as `in 3 min`."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def local(moment: datetime) -> str:
    """The time on the wall here: `Mon 2026-11-23 04:30`."""
    return f"{moment.astimezone():%a %Y-%m-%d %H:%M}"


def when(moment: datetime, now: datetime) -> str:
    """Both of them: `Mon 2026-11-23 04:30 (2 h ago)`."""
    return f"{local(moment)} ({age(moment, now)})"


def aligned(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """The rows as lines with their columns one below the other, two blanks apart."""
    table = [[printable(cell) for cell in row] for row in rows]
    if not table:
        return []
    widths = [max(len(row[at]) for row in table if at < len(row)) for at in range(max(map(len, table)))]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))).rstrip()
        for row in table
    ]


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
