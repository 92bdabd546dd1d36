"""Amounts in words: errors are written where the bytes are, far below what draws.

Pure, and without imports: everything may use it.
"""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: float) -> str:
    """Bytes in the unit that keeps it short: `0 B`, `1.5 GiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 or count >= 100 else f"{count:.1f} {_UNITS[unit]}"


def count(number: int, word: str, words: str = "") -> str:
    """`1 file`, `1,204 files`; `words` is for those that take no s."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {words or word + 's'}"
