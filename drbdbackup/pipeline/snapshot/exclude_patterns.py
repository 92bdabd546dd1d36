"""The list of excluded paths for an engine, shortened: one pattern instead of many paths.

restic compares each path with each excluded one: with 100,000 of these it was not done after two minutes. Where many of
them have a name or an ending in common, and nothing that is to be stored has it, one pattern excludes them all. No
pattern may ever exclude a path that the walk has included.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

_MANY = 1000  # paths; so many cost nothing worth a further look at what is stored
_SOME = 10  # of them; what fewer have in common is not worth a pattern
_PLAIN = re.compile(rb"[A-Za-z0-9_.-]+")  # letters that mean themselves in any engine's patterns


def shortened(
    paths: Sequence[bytes], stored: Iterable[bytes], source: str, many: int = _MANY
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """The paths that remain, and the names that stand for the others wherever they are: `*.tmp`, `node_modules`.

    `stored` are the paths that are not left out, from the top of the folder `source`.
    """
    if len(paths) <= many:
        return tuple(paths), ()
    counts = Counter(name for path in paths for name in _names(path))
    common = {name for name, count in counts.items() if count >= _SOME}
    for path in chain(os.fsencode(source).split(b"/"), stored):
        common.difference_update(_meant(path))
    left, names = list[bytes](), dict[bytes, None]()
    for path in paths:
        name = next((name for name in _names(path) if name in common), b"")
        if name:
            names[name] = None
        else:
            left.append(path)
    return tuple(left), tuple(names)


def _meant(path: bytes) -> tuple[bytes, ...]:
    """What means the last name of a path: its ending, and the whole of it."""
    name = path.rpartition(b"/")[2]
    _, dot, ending = name.rpartition(b".")
    return (b"*." + ending, name) if dot and ending else (name,)


def _names(path: bytes) -> tuple[bytes, ...]:
    """The same, if all its letters mean themselves."""
    return _meant(path) if _PLAIN.fullmatch(path.rpartition(b"/")[2]) else ()
