"""What a target will not hold of what is to be copied to it, as a dry run can know it: it writes nothing there.

An unchanged entry will lack what its last copy lacks. Of the others their size, times and attributes are held against
what the target's file system is known to hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from drbdbackup.errors import Damaged
from drbdbackup.manifest import SHORT, is_short, lacks_of, parse, recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.metadata import ACLS, attributes
from drbdbackup.pipeline.snapshot.plan import Planned, Step
from drbdbackup.targets.filesystem_limits import Bounds
from drbdbackup.targets.sidecar import KEPT_PROBLEMS

TOO_LARGE = "the file is larger than the target can hold"
LIMITED = "the file is larger than `ulimit -f` (LimitFSIZE= of the unit) allows"
_WRITTEN = (Step.FOLDER, Step.COPY, Step.COPY_GROUP)


def short(path: bytes, lacks: frozenset[str]) -> Problem:
    """The problem of an entry of which its target cannot hold everything."""
    return Problem.at(path, f"{SHORT}{' and '.join(sorted(lacks))}; the manifest keeps that")


class LimitsForecast:
    """Looks at each planned entry in turn; `count` problems, the first of which are in `problems`."""

    def __init__(self, source: str, bounds: Bounds, can: Mapping[str, bool]) -> None:
        """`can` are the abilities of the target as its last copy has them; what it never holds is no problem."""
        self._source = source
        self._bounds = bounds
        self._can = can
        self.count = 0
        self.problems: list[Problem] = []

    def look(self, planned: Planned) -> None:
        """Raises nothing: what cannot be looked at has vanished, or the copy will say so."""
        if planned.front:
            self._look_back(planned)
        elif planned.step in _WRITTEN:
            self._look_ahead(planned)

    def _look_back(self, planned: Planned) -> None:
        line = planned.front + b" " + planned.line
        if is_short(line):
            one = recorded(line)
            self._add(short(one.entry.path, lacks_of(one.attributes)))

    def _look_ahead(self, planned: Planned) -> None:
        try:
            entry = parse(planned.line)
            found = attributes(os.path.join(os.fsencode(self._source), entry.path))
        except (Damaged, OSError):
            return
        if self._bounds.is_too_large(entry):
            self._add(Problem.at(entry.path, TOO_LARGE))
            return
        held = {
            name: value for name, value in found.items()
            if self._can.get("acls" if name.startswith(ACLS.encode()) else "xattrs", True)
        }  # fmt: skip
        if lacks := self._bounds.lacks(entry, held):
            self._add(short(entry.path, lacks))

    def _add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
