"""What has a name that a share cannot hold is kept aside: content under a name made of the path's hash, the rest in the
manifest, where its flag is in upper case. Nothing of it is in the snapshot's tree.

Such entries are few, so they are copied here and not by rsync. Nothing is ever written into an older copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress

from drbdbackup.manifest import CHANGED, NOTHING, Entry, parse
from drbdbackup.pipeline.fill import Filled, Place, settled
from drbdbackup.pipeline.plan import Planned, Step
from drbdbackup.scan import kind_of

FOLDER = "aside"


def stored_at(snapshot: str, path: bytes) -> str:
    """Where the content of `path` lies in the snapshot's folder, if its flag says that it lies aside (upper case)."""
    return os.path.join(snapshot, FOLDER, hashlib.sha256(path).hexdigest()[:32])


class Aside:
    """Puts files aside in a fresh snapshot, linked from that base's where unchanged which has them so."""

    def __init__(self, place: Place, fresh: str, bases: Sequence[str], filled: Filled) -> None:
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
        try:
            front = self._linked(planned, target, entry.path) or self._copied(entry, target)
        except OSError as error:
            self._filled.problems.append((entry.path, f"not put aside: {error.strerror}"))
            return Planned(Step.LOST, -1, b"", planned.line)
        return Planned(Step.KEEP, -1, front, planned.line)

    def _linked(self, planned: Planned, target: str, path: bytes) -> bytes:
        if not planned.front:
            return b""
        try:
            os.link(stored_at(self._bases[planned.base], path), target, follow_symlinks=False)
        except OSError:  # a share without links, too many of them, or a base that has lost it
            return b""
        return planned.front

    def _copied(self, entry: Entry, target: str) -> bytes:
        import xxhash

        state = xxhash.xxh128()
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        source = os.path.join(os.fsencode(self._place.source), entry.path)
        with open(os.open(source, flags), "rb") as reader, open(target, "xb") as writer:
            if kind_of(os.fstat(reader.fileno()).st_mode) != b"f":
                raise OSError(errno.EINVAL, "became something else meanwhile")
            while piece := reader.read(1 << 20):
                state.update(piece)
                writer.write(piece)
            size = writer.tell()
        self._filled.entries += 1
        self._filled.bytes += size
        return self._front(entry, state.hexdigest().encode(), size != entry.size)

    def _front(self, entry: Entry, content: bytes, changed: bool = False) -> bytes:
        flag = (CHANGED if changed else settled(entry.ctime, self._place.started_ns)).upper()
        return b" ".join((content, flag, self._place.kept(entry.path)))
