"""A snapshot under way on one target: where it is made, from what, and how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from drbdbackup.manifest import Entry, parse
from drbdbackup.pipeline import plan
from drbdbackup.pipeline.fill import Filled, Place
from drbdbackup.pipeline.names import Names
from drbdbackup.pipeline.plan import Base, Planned, Planner

MANIFEST = "manifest.gz"
COPIED = "manifest.partial"
WHOLE = "whole"  # is there once all that the manifest tells of is on the medium
GROUPS = "groups"
UNLINKED = "unlinked"
PLAN = "plan"


@dataclass(slots=True)
class Making:
    """A snapshot under way. `fresh` is the `.partial-` folder (with `data` in it); `updating` means that `data` is a
    writable clone of the newest base, so unchanged entries are there already.
    """

    place: Place
    fresh: str
    bases: list[Base]
    updating: bool = False
    workers: int = 1
    holdable: bytes = b"fdlpscb"
    names: Names | None = None
    on_progress: Callable[[int, int, int], None] = lambda entries, done, copied: None
    filled: Filled = field(default_factory=Filled)
    seen: int = 0
    linked_bytes: int = 0
    root: Entry | None = None

    def met(self, line: bytes) -> None:
        """The walk found this entry."""
        if self.root is None:
            self.root = parse(line)
        self.seen += 1
        if not self.seen & 0xFFF:
            self.tell()

    def at(self, name: str) -> str:
        """A file in the fresh folder."""
        return os.path.join(self.fresh, name)

    def scratch(self, name: str) -> str:
        """A file in the scratch folder."""
        return os.path.join(self.place.scratch, name)

    def tell(self) -> None:
        """Report how far it is: entries seen, bytes done (linked or copied), bytes copied."""
        self.on_progress(self.seen, self.linked_bytes + self.filled.bytes, self.filled.bytes)


def decided(making: Making, planner: Planner) -> Iterator[Planned]:
    """The plan again, with the last word on every entry."""
    with open(making.scratch(PLAN), "rb", buffering=1 << 18) as lines:
        for line in lines:
            yield planner.settle(plan.read(line))
