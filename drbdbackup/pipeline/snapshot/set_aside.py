"""What has a name that a share cannot hold is kept aside: content under a name made of the path's hash, the rest in the
manifest, where its flag is in upper case. Nothing of it is in the snapshot's tree.

Such entries are few, so they are copied here and not by rsync. Nothing is ever written into an older copy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from drbdbackup.manifest import CHANGED, NOTHING, Entry, parse
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.content import copy_content
from drbdbackup.pipeline.snapshot.copy_files import Copied, CopySettings, settled
from drbdbackup.pipeline.snapshot.exchanged_files import as_read
from drbdbackup.pipeline.snapshot.plan import Planned, Step
from drbdbackup.targets.layout import stored_at


class Aside:
    """Puts files aside in a fresh snapshot, linked from that base's where unchanged which has them so."""

    def __init__(self, place: CopySettings, fresh: str, bases: Sequence[str], filled: Copied) -> None:
        """`fresh` and `bases` are snapshot folders (not their data), the latter in the planner's order."""
        self._place = place
        self._fresh = fresh
        self._bases = bases
        self._filled = filled

    def put(self, planned: Planned) -> Planned:
        """The entry put aside, as the manifest is to record it; with no front (and a problem) if it could not be."""
        entry = parse(planned.line)
        if entry.kind != b"f":
            return Planned(Step.KEEP, -1, planned.front or self._front(entry, NOTHING), planned.line)
        target = stored_at(self._fresh, entry.path)
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(target), 0o700)
        line = planned.line
        try:
            front = self._linked(planned, target, entry.path)
            if not front:
                front, line = self._copied(entry, target, line)
        except OSError as error:
            self._filled.problems.append(Problem.at(entry.path, f"not put aside: {error.strerror}"))
            return Planned(Step.LOST, -1, b"", planned.line)
        return Planned(Step.KEEP, -1, front, line)

    def _linked(self, planned: Planned, target: str, path: bytes) -> bytes:
        if not planned.front:
            return b""
        try:
            os.link(stored_at(self._bases[planned.base], path), target, follow_symlinks=False)
        except OSError:  # a share without links, too many of them, or a base that has lost it
            return b""
        return planned.front

    def _copied(self, entry: Entry, target: str, line: bytes) -> tuple[bytes, bytes]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.path.join(os.fsencode(self._place.source), entry.path)
        with open(os.open(source, flags), "rb") as reader, open(target, "xb") as writer:
            read = os.fstat(reader.fileno())
            content = copy_content(reader.fileno(), writer.fileno(), read)
            size = os.fstat(writer.fileno()).st_size
        now = as_read(line, read, 0, None)
        self._filled.entries += 1
        self._filled.bytes += size
        return self._front(entry, content.encode(), changed=size != entry.size or now != line), now

    def _front(self, entry: Entry, content: bytes, *, changed: bool = False) -> bytes:
        flag = (CHANGED if changed else settled(entry.ctime, self._place.started_ns)).upper()
        return b" ".join((content, flag, self._place.kept(entry.path, entry.ctime, entry.inode, self._filled.problems)))
