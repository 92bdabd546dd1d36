"""The folders of a snapshot under way, and their metadata, which comes when nothing is written into them any more.

A folder gets what the walk saw, as the manifest has it. In a fresh tree that is every folder, in a clone those that
differ or were written into. It must never follow a symlink.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from drbdbackup.manifest import Entry, parse, path_of
from drbdbackup.pipeline.attributes import attributes, give
from drbdbackup.pipeline.making import Making
from drbdbackup.targets import removal
from drbdbackup.tools.rsync import Holds

_LISTED = "folders"
_ACLS = "system.posix_acl_"
_OURS = ("user.", "trusted.", _ACLS)  # what a security module gives to a folder is not the snapshot's


class Folders:
    """Notes which folders are to be given their metadata, in the course of a pass over the walk or the plan."""

    def __init__(self, making: Making) -> None:
        """`give_all` comes last, once."""
        self._making = making
        self._listed = open(making.scratch(_LISTED), "w+b")  # noqa: SIM115
        self._above: list[tuple[bytes, bytes]] = []
        self._last = b""

    def entered(self, line: bytes) -> None:
        """A folder of the source; what follows is in it."""
        path = path_of(line)
        while self._above and not path.startswith(self._above[-1][0] + b"/"):
            self._above.pop()
        self._above.append((path, line))

    def differs(self, line: bytes) -> None:
        """A folder that has not been given its metadata before."""
        if line != self._last:
            self._listed.write(line)
            self._last = line

    def touched(self, path: bytes) -> None:
        """An entry is written or removed there."""
        if self._making.updating:
            folder = path.rpartition(b"/")[0]
            line = next((line for above, line in reversed(self._above) if above == folder), None)
            if line is not None:  # else it is the root, or is gone itself
                self.differs(line)

    def gone(self, line: bytes) -> None:
        """An entry of the base is not there any more: out of the clone with it."""
        if self._making.updating:
            path = path_of(line)
            self.touched(path)
            removal.remove_tree(os.fsencode(self._making.place.data), path)

    def give_all(self) -> None:
        """Give them what is theirs, the root last; what cannot be given is a problem."""
        self._listed.seek(0)
        for line in self._listed:
            self._give(parse(line))
        if self._making.root is not None:
            self._give(self._making.root)

    def close(self) -> None:
        """Let go of the list."""
        self._listed.close()

    def _give(self, entry: Entry) -> None:
        place = self._making.place
        source = os.path.join(os.fsencode(place.source), entry.path)
        target = os.path.join(os.fsencode(place.data), entry.path)
        wanted = _held(attributes(source), place.holds)
        for name in _held(attributes(target), place.holds).keys() - wanted.keys():
            if name.startswith(_OURS):  # inherited from a default ACL, or gone from the source since
                with suppress(OSError):
                    os.removexattr(target, name, follow_symlinks=False)
        if not place.holds.owners:  # else we could not read our own copy again
            entry = replace(entry, mode=entry.mode | 0o700)
        if lost := give(target, entry, wanted, place.holds.owners, place.holds.modes):
            self._making.filled.problems.append((entry.path, "; ".join(lost)))


def _held(extended: Mapping[bytes, bytes], holds: Holds) -> dict[str, bytes]:
    """The extended attributes that the target can hold."""
    named = {os.fsdecode(name): value for name, value in extended.items()}
    return {name: value for name, value in named.items() if (holds.acls if name.startswith(_ACLS) else holds.xattrs)}
