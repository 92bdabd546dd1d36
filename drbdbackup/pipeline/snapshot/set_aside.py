"""What has a name that a share cannot hold is kept aside: content under a name made of the path's hash, the rest in the
manifest, where its flag is in upper case. Nothing of it is in the snapshot's tree.

Such entries are few, so they are copied here and not by rsync. Nothing is ever written into an older copy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from drbdbackup import open_flags
from drbdbackup.manifest import CHANGED, NOTHING, Entry, parse
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import grown
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
        self._first: dict[int, tuple[bytes, int, bytes]] = {}

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
        source = os.path.join(os.fsencode(self._place.source), entry.path)
        with open(os.open(source, open_flags.READ), "rb") as reader:
            read = os.fstat(reader.fileno())
            content, size = self._joined(read, target)
            if not content:
                self._place.hole_quota.check(read)
                with open(target, "xb") as writer:
                    most = grown(entry.size)
                    content = copy_content(reader.fileno(), writer.fileno(), read, most=most).encode()
                    size = os.fstat(writer.fileno()).st_size
                self._filled.bytes += size
                if read.st_nlink > 1:
                    self._first[read.st_ino] = (entry.path, read.st_ctime_ns, content)
        now = as_read(line, read, 0, None)
        self._filled.entries += 1
        return self._front(entry, content, changed=size != entry.size or now != line), now

    def _joined(self, read: os.stat_result, target: str) -> tuple[bytes, int]:
        """The hash and size of an open file, if it is one more name of what was put aside before; else nothing."""
        path, ctime, content = self._first.get(read.st_ino, (b"", 0, b""))
        if not content or ctime != read.st_ctime_ns:
            return b"", 0
        try:
            os.link(stored_at(self._fresh, path), target, follow_symlinks=False)
        except OSError:  # a share without links, or there are too many
            return b"", 0
        return content, os.lstat(target).st_size

    def _front(self, entry: Entry, content: bytes, *, changed: bool = False) -> bytes:
        flag = (CHANGED if changed else settled(entry.ctime, self._place.started_ns)).upper()
        return b" ".join((content, flag, self._place.kept(entry.path, entry.ctime, entry.inode, self._filled.problems)))
