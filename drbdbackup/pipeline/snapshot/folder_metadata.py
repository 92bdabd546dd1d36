"""The folders of a snapshot under way, and their metadata, which comes when nothing is written into them any more.

A folder gets what the walk saw, as the manifest has it. In a fresh tree that is every folder, in a clone those that
differ or were written into. It must never follow a symlink.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from stat import S_IMODE

from msgspec.structs import replace

from drbdbackup.manifest import Entry, is_unknown, parse, path_of, split
from drbdbackup.pipeline.files.metadata import attributes, lacks, own, write_metadata
from drbdbackup.pipeline.snapshot.copy_files import attributes_of, held, noted
from drbdbackup.pipeline.snapshot.plan import Planned
from drbdbackup.pipeline.snapshot.workspace import Workspace
from drbdbackup.targets import removal

_LISTED = "folders"
_NEW = b"- - -"  # of a folder that no base has


class Folders:
    """Notes which folders are to be given their metadata, in the course of a pass over the walk or the plan."""

    def __init__(self, workspace: Workspace) -> None:
        """`write_all` comes last, once."""
        self._making = workspace
        self._listed = open(workspace.scratch(_LISTED), "w+b")  # noqa: SIM115
        self._above: list[tuple[bytes, bytes]] = []
        self._last = b""

    def entered(self, planned: Planned) -> None:
        """A folder of the source; what follows is in it."""
        path, line = path_of(planned.line), (planned.front or _NEW) + b" " + planned.line
        while self._above and not path.startswith(self._above[-1][0] + b"/"):
            self._above.pop()
        self._above.append((path, line))

    def differs(self) -> None:
        """The folder that was entered last has not been given its metadata before."""
        self._list(self._above[-1][1])

    def _list(self, line: bytes) -> None:
        if line != self._last:
            self._listed.write(line)
            self._last = line

    def touched(self, path: bytes) -> None:
        """An entry is written or removed there."""
        if self._making.updating:
            folder = path.rpartition(b"/")[0]
            line = next((line for above, line in reversed(self._above) if above == folder), None)
            if line is not None:  # else it is the root, or is gone itself
                self._list(line)

    def gone(self, line: bytes) -> None:
        """An entry of the base is not there any more: out of the clone with it."""
        if self._making.updating:
            path = path_of(line)
            self.touched(path)
            removal.remove_tree(os.fsencode(self._making.place.data), path)

    def write_all(self) -> None:
        """Give them what is theirs, the root last; what cannot be given is kept in the manifest, which comes after."""
        self._listed.seek(0)
        for line in self._listed:
            front, tail = split(line)
            self._give(parse(tail), front)
        if self._making.root is not None:
            self._give(self._making.root, _NEW)

    def close(self) -> None:
        """Let go of the list."""
        self._listed.close()

    def _give(self, entry: Entry, front: bytes) -> None:
        place = self._making.place
        source = os.path.join(os.fsencode(place.source), entry.path)
        target = os.path.join(os.fsencode(place.data), entry.path)
        there = _attributes(source, entry.inode)
        wanted = _named(held(there, place.holds))
        has = _named(held(attributes(target), place.holds))
        surplus = own(has).keys() - wanted.keys()
        for name in surplus:
            with suppress(OSError):  # inherited from a default ACL, or gone from the source since
                os.removexattr(target, name, follow_symlinks=False)
        if place.holds_attributes and self._is_other(source, entry, front, word := noted(own(there))):
            self._making.words[entry.path] = word
        if not place.holds.owners:  # else we could not read our own copy again
            entry = replace(entry, mode=entry.mode | 0o700)
        if self._making.recycling and not surplus and wanted.items() <= has.items() and _has_given(target, entry):
            return  # each of the calls that this saves is a request to a share
        if lost := write_metadata(target, entry, wanted, owners=place.holds.owners, modes=place.holds.modes):
            self._making.short[entry.path] = lacks(lost)

    def _is_other(self, source: bytes, entry: Entry, front: bytes, word: bytes) -> bool:
        """Whether the folder's attributes are not surely those that the manifest would have of it."""
        if not is_unknown(front):
            return word != front.rsplit(b" ", 1)[1]
        try:
            return os.lstat(source).st_ctime_ns != entry.ctime
        except OSError:
            return True


def _has_given(target: bytes, entry: Entry) -> bool:
    """Whether a folder has the entry's owner, mode and times already."""
    seen = os.lstat(target)
    return (S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, seen.st_mtime_ns) == (
        entry.mode, entry.uid, entry.gid, entry.mtime
    )  # fmt: skip
def _attributes(source: bytes, inode: int) -> Mapping[bytes, bytes]:
    """Those of the folder that the walk saw; none of another, which somebody may have put in its place."""
    try:
        return attributes_of(source, inode)[0]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return {}
        raise


def _named(extended: Mapping[bytes, bytes]) -> dict[str, bytes]:
    return {os.fsdecode(name): value for name, value in extended.items()}
