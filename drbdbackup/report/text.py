"""Plain words for people: times, sizes, aligned columns. Pure, and instant: the standard library only.

Names come from disks and from other nodes: what a terminal would act on is written as an escape, always.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from drbdbackup.model.amount import count as count
from drbdbackup.model.amount import size as size
from drbdbackup.model.problem import Problem

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_PROBLEMS = 10  # that are shown; the catalog and the sidecar keep more
_ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_GAP = r"(?<=\S) {2,}(?=\S)"
# What is never broken: a short command, a time, a number and what it counts, a word.
_WHOLE = r"`[^`]{1,30}`\S*|\(?(?:[A-Z][a-z]{2} )?\d{4}-\d\d-\d\d \d\d:\d\d\S*|\(?\d[\d.,]* \S+(?: ago\S*)?|\S+"
_WORDS = rf"(\s*)(`[^`]*`\S*|{_WHOLE})"
_EASY = 16  # letters a line that are easy to read in a column
_END = 120  # letters of each end of a long line


def printable(text: str) -> str:
    """The text with everything that is no printable character escaped; bytes that are no UTF-8 as `\\xff`."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def problems(found: Sequence[Problem], count: int, kept_in: str = "") -> str:
    """The first few of `count`, each on its line, those that name a path before the others; `kept_in` has the rest."""
    first = sorted(found, key=lambda one: not one.path)[:_PROBLEMS]
    shown = [": ".join(_short(printable(part)) for part in (one.path, one.reason) if part) for one in first]
    more = [f"and {count - len(shown):,} more{kept_in}"] if count > len(shown) else []
    return "\n".join([*shown, *more])


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


def day_and_time(moment: datetime) -> str:
    """The time on the wall here, for a column: `2026-11-23 04:30`."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def localised(text: str) -> str:
    """The text with each ISO time in UTC as the time on the wall here: a screen shows one kind of time."""
    return re.sub(_ISO, lambda found: local(datetime.fromisoformat(found[0])), text)


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


def fitted(
    rows: Iterable[Sequence[str]], width: int | None, *, wrap: Sequence[int], drop: Sequence[int] = (), indent: str = ""
) -> list[str]:
    """The same in lines of at most `width` letters; None for as long as they are.

    Columns in `wrap` are broken between words, never within one; where they would become hard to read, those in `drop`
    are left out, the first of them first.
    """
    table = [[printable(cell) for cell in row] for row in rows]
    shown = list(range(max(map(len, table), default=0)))
    widths = {at: max((len(row[at]) for row in table if at < len(row)), default=0) for at in shown}
    room = None if width is None else width - len(indent)
    going = list(drop)
    while room is not None:
        narrow = _narrowed(widths, table, wrap, room, _EASY if going else 0)
        if _line(narrow) <= room or not going:
            widths = narrow
            break
        widths.pop(going.pop(0), None)
    lines = []
    for row in table:
        cells = [_wrapped(row[at] if at < len(row) else "", widths[at]) for at in widths]
        for line in range(max(map(len, cells), default=0)):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = (part.ljust(width) for part, width in zip(parts, widths.values(), strict=True))
            lines.append((indent + "  ".join(padded)).rstrip())
    return lines


def wrapped(line: str, width: int | None) -> list[str]:
    """A line as lines of at most `width` letters, broken between words; what stands in backticks is one, to be copied.

    What does not fit goes on below the last column that begins in the first two thirds, or a little further in.
    """
    if width is None or len(line) <= width:
        return [line]
    begins = [found.end() for found in re.finditer(_GAP, line) if found.end() <= width * 2 // 3]
    indent = begins[-1] if begins else len(line) - len(line.lstrip(" ")) + 2
    found, current = [], ""
    for gap, word in re.findall(_WORDS, line):
        if current.strip() and len(current) + len(gap) + len(word) > width >= indent + len(word):
            found.append(current)
            current = " " * indent + word
        else:
            current += gap + word
    return [*found, current]


def _narrowed(
    widths: dict[int, int], table: Sequence[Sequence[str]], wrap: Sequence[int], room: int, least: int
) -> dict[int, int]:
    """The widths with the columns of `wrap` as narrow as they have to be, or can be: `least`, and each word whole."""
    words = {at: [word for row in table if at < len(row) for word in re.findall(_WHOLE, row[at])] for at in wrap}
    ends = {at: max(least, *map(len, words[at]), 0) for at in wrap if at in widths}
    narrow = dict(widths)
    while _line(narrow) > room and (left := [at for at, end in ends.items() if narrow[at] > end]):
        narrow[max(left, key=narrow.__getitem__)] -= 1
    return narrow


def _line(widths: dict[int, int]) -> int:
    """How long a line of these columns is."""
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _wrapped(cell: str, width: int) -> list[str]:
    """A cell as lines of so many letters; a word that is longer stays whole."""
    lines = [""]
    if len(cell) <= width:
        return [cell]
    for word in re.findall(_WHOLE, cell):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _short(line: str) -> str:
    """Without the middle, where it is so long that it would fill the screen."""
    return line if len(line) <= 3 * _END else f"{line[:_END]} [...] {line[-_END:]}"


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")
