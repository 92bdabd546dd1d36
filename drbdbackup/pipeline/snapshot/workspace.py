"""A snapshot under way on one target: where it is made, from what, and how far it is.

The steps of `make` share it. It decides nothing itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from msgspec import Struct, field

from drbdbackup.manifest import KINDS, Entry, parse, path_of
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.snapshot import plan
from drbdbackup.pipeline.snapshot.copy_files import Copied, CopySettings
from drbdbackup.pipeline.snapshot.plan import Base, Planned, Planner
from drbdbackup.pipeline.volume.hole_quota import SpoolHoleQuota
from drbdbackup.targets.names import Names

COPIED = "manifest.partial"
WHOLE = "whole"  # is there once all that the manifest names is on the medium
GROUPS = "groups"
UNLINKED = "unlinked"
PLAN = "plan"
_OFTEN = 4096  # entries between two words on how far it is


class Workspace(Struct, kw_only=True):
    """A snapshot under way. `fresh` is the `.partial-` folder (with `data` in it); `updating` means that `data` is a
    writable clone of the newest base, so unchanged entries are there already. `recycling`: it is the tree of an old
    snapshot, and the first base is the newest. `sign` is what the next run believes. `short` are folders, and what of
    each the target cannot hold; `words` has the attributes of those that changed after the walk, as they were given to
    the copy. `hole_quota` says which files have too many holes, on a target that does not say which part of a file is a
    hole.
    """

    place: CopySettings
    fresh: str
    bases: list[Base]
    updating: bool = False
    recycling: bool = False
    workers: int = 1
    holdable: bytes = KINDS
    names: Names | None = None
    sign: Callable[[bytes], bytes] = lambda lines: lines
    on_progress: Callable[[int, int, int], None] = lambda entries, done, copied: None
    filled: Copied = field(default_factory=Copied)
    seen: int = 0
    linked_bytes: int = 0
    root: Entry | None = None
    short: dict[bytes, frozenset[str]] = field(default_factory=dict)
    words: dict[bytes, bytes] = field(default_factory=dict)
    hole_quota: SpoolHoleQuota | None = None

    def met(self, line: bytes) -> bool:
        """The walk found this entry; whether it is time to tell the other copies, too."""
        if self.root is None:
            self.root = parse(line)
        return self.met_more(1)

    def met_more(self, count: int) -> bool:
        """The same for so many that are not the first."""
        before = self.seen
        self.seen += count
        is_due = before // _OFTEN != self.seen // _OFTEN
        if is_due:
            self.tell()
        return is_due

    def taken(self, lines: list[bytes]) -> Iterator[list[bytes]]:
        """Runs of these spool lines without those of files that are left out, which are met and named."""
        begins = 0
        for number, line in enumerate(lines if self.hole_quota is not None else ()):
            if self.hole_quota is not None and (why := self.hole_quota.refused(line)):
                yield lines[begins:number]
                self.met(line)
                self.filled.problems.append(Problem.at(path_of(line), why))
                begins = number + 1
        yield lines[begins:] if begins else lines

    def at(self, name: str) -> str:
        """A file in the fresh folder."""
        return os.path.join(self.fresh, name)

    def scratch(self, name: str) -> str:
        """A file in the scratch folder."""
        return os.path.join(self.place.scratch, name)

    def tell(self) -> None:
        """Report how far it is: entries seen, bytes done (linked or copied), bytes copied."""
        self.on_progress(self.seen, self.linked_bytes + self.filled.bytes, self.filled.bytes)


def decided(workspace: Workspace, planner: Planner) -> Iterator[Planned]:
    """The plan again, with the last word on every entry."""
    with open(workspace.scratch(PLAN), "rb", buffering=1 << 18) as lines:
        for _, line in plan.parts(lines, whole=False):
            yield planner.resolve(plan.read(line))
