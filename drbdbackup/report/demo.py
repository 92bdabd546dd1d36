"""The demo on the screen: chapters, the narrator's paragraphs, what is typed, and what it prints, set off to the right.

Plain escapes and no rich: there is nothing to align, and it looks the same everywhere.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from drbdbackup.demo import Heading, Printed, Shown, Typed, Words
from drbdbackup.report import console
from drbdbackup.report.console import CAREFUL
from drbdbackup.report.text import printable

_WIDEST = 100  # columns
_BOLD, _END = "\033[1m", "\033[0m"


def tell(part: Shown) -> None:
    """Show one thing at once, for it may be a while until the next; in bold letters where a person is watching."""
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 25)).columns)
    bold = console.has_colours() and isinstance(part, Heading | Typed)
    for line in _drawn(part, width):
        CAREFUL.write(f"{_BOLD}{line}{_END}\n" if bold and line else f"{line}\n")
    CAREFUL.flush()


def _drawn(part: Shown, width: int) -> Iterator[str]:
    match part:
        case Heading(text):
            yield from ("", "", printable(text))
        case Words(text):
            yield from ("", *textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False))
        case Typed(node, line):
            yield from ("", printable(f"  {node}# {line}"))
        case Printed("", status):
            yield f"    (it prints nothing; exit status {status})"
        case Printed(text, _):
            yield from (f"    {printable(line)}" for line in text.rstrip("\n").split("\n"))
