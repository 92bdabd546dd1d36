"""The lines that a program writes to stderr. A peer may decide what they are: none may take memory without end."""

from __future__ import annotations

from collections.abc import Callable

_LONGEST = 1 << 16  # letters of a line; a path with all of its letters escaped has a quarter of that


def read(end: int, on_line: Callable[[str], object], on_letters: Callable[[int], object] = lambda _: None) -> None:
    """Give each line of an open pipe to `on_line` until its end, or as much of it as one can be long.

    `on_letters` gets how many letters came, of those that are left out, too.
    """
    with open(end, encoding="utf-8", errors="surrogateescape") as pipe:
        is_rest = False
        while piece := pipe.readline(_LONGEST):
            on_letters(len(piece))
            if not is_rest:
                on_line(piece)
            is_rest = not piece.endswith("\n")
