"""The caged job that reads one part of what lies on a medium again, of several of its copies. It changes nothing there.

A part is made of the paths whose hash falls to it, so every part of a copy together are all of it. Each entry of the
part is held against the manifest; a file that a copy shares with the one before is read once.
"""

from __future__ import annotations

import os
import re
import zlib
from contextlib import ExitStack, closing
from time import monotonic

from msgspec import Struct, field

from drbdbackup import manifest
from drbdbackup.errors import Damaged, NothingFound
from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, is_kept_by_engine, open_engine, open_medium
from drbdbackup.pipeline.copies.read_protocol import Unread
from drbdbackup.pipeline.files.compare import is_aside, recorded_below
from drbdbackup.pipeline.files.tree import ParentOpener, entry_at, open_folder
from drbdbackup.pipeline.verify import scrub_repository
from drbdbackup.pipeline.verify.scrub_protocol import CopyScrubbed, ScrubEnd, ScrubJob
from drbdbackup.pipeline.verify.verification import Verification, content, judge_aside, judge_own, names_like
from drbdbackup.scan import raise_open_files

_BEAT = 0xFFF  # entries between two signs of life


class Scrubbing(Struct, kw_only=True):
    """One scrub under way. `read` has the content (a hash of its hash) that a file was held against, by what stat shows
    of it; `wrong` what is wrong with it then.
    """

    part: int
    of: int
    until: float
    channel: Channel
    ignore: re.Pattern[str] | None
    read: dict[int, int] = field(default_factory=dict)
    wrong: dict[tuple[int, int, int], str] = field(default_factory=dict)

    def is_over(self) -> bool:
        """Whether its time is over."""
        return monotonic() > self.until

    def takes(self, path: bytes) -> bool:
        """Whether an entry belongs to the part."""
        return zlib.crc32(path) % self.of == self.part


def do(job: ScrubJob, channel: Channel) -> ScrubEnd:
    """Read the part of each of the copies. Raises TargetError if the medium goes away."""
    raise_open_files()
    scrubbing = Scrubbing(
        part=job.part, of=job.of, until=monotonic() + job.seconds, channel=channel, ignore=names_like(job.ignore)
    )
    if is_kept_by_engine(job):
        with open_engine(job, channel) as engine:
            return scrub_repository.read(job, engine, channel)
    name_left, entry_left = job.left or ("", 0)
    with open_medium(job, channel) as copy_of, ExitStack() as stack:
        before = -1
        for name in job.snapshots:
            if before >= 0 and scrubbing.is_over():
                return ScrubEnd((name, 0))
            try:
                copy = copy_of(name)
                at = stack.enter_context(open_folder(copy.data))
                one = _Copy(scrubbing, copy, at, before, entry_left if name == name_left else 0)
                stopped = one.read()
            except (Damaged, NothingFound) as error:
                channel.send(Unread(name, error.message, is_gone=isinstance(error, NothingFound)))
                continue
            before = at
            channel.send(one.scrubbed(name, is_whole=not stopped))
            if stopped:
                return ScrubEnd((name, stopped))
    return ScrubEnd(None)


class _Copy:
    """The part of one copy: `at` is its tree, `before` that of the copy that was read before it (or -1)."""

    def __init__(self, scrubbing: Scrubbing, copy: OpenCopy, at: int, before: int, skip: int) -> None:
        self._scrubbing, self._copy, self._skip = scrubbing, copy, skip
        self._verifying = Verification(copy=copy, share=1.0, channel=scrubbing.channel, ignore=scrubbing.ignore)
        self._held = copy.can.kinds
        self._here = ParentOpener(at)
        self._before = ParentOpener(before) if before >= 0 else None

    def read(self) -> int:
        """How many entries were looked at when the time was over, 0 if all were."""
        done = self._read()
        if self._verifying.count:
            self._copy.check_still_there()
        return done

    def scrubbed(self, name: str, *, is_whole: bool) -> CopyScrubbed:
        """What was found."""
        found = self._verifying
        return CopyScrubbed(
            snapshot=name,
            is_whole=is_whole,
            files=found.files,
            bytes=found.size,
            problems=tuple(found.problems),
            problem_count=found.count,
            extras=found.extras,
        )

    def _read(self) -> int:
        listed = _Listed(self._verifying)
        with manifest.reading(self._copy.manifest) as lines, closing(self._here):
            for number, one in enumerate(recorded_below(lines, b"")):
                self._verifying.seen += 1
                if not number & _BEAT:
                    self._verifying.tell()
                if number < self._skip:
                    continue
                listed.meet(one.entry.path)
                if not self._scrubbing.takes(one.entry.path):
                    continue
                if self._scrubbing.is_over() and number > self._skip:
                    return number
                self._judge(one, listed)
            listed.end()
        return 0

    def _judge(self, one: Recorded, listed: _Listed) -> None:
        path = one.entry.path
        if is_aside(one):
            judge_aside(self._verifying, one)
            return
        try:
            folder, name = self._here.parent(path)
            there = entry_at(folder, name, path)
            why = judge_own(self._verifying, one, there, folder, name)
            if not why and one.entry.kind == b"f":
                why = self._content(folder, name, one, there)
            if there.kind == b"d":
                listed.enter(path, folder, name)
        except (FileNotFoundError, NotADirectoryError):
            why = "is not there" if one.entry.kind in self._held else ""
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        if why:
            self._verifying.object(path, why)

    def _content(self, folder: int, name: bytes, one: Recorded, there: Entry) -> str:
        seen = (there.inode, there.ctime, there.mtime)
        read, wrong = self._scrubbing.read, self._scrubbing.wrong
        # Whoever can write to a share can link another file here: of the same size and time, with another content.
        if self._is_shared(there) and read.get(hash(seen)) == hash(one.hash):
            return wrong.get(seen, "")
        why = content(self._verifying, folder, name, one, there.size)
        read[hash(seen)] = hash(one.hash)
        wrong.pop(seen, None)
        if why:
            wrong[seen] = why
        return why

    def _is_shared(self, there: Entry) -> bool:
        """Whether the copy before has the very same file here: by a hard link, or in a subvolume that was cloned."""
        if self._before is None:
            return False
        try:
            folder, name = self._before.parent(there.path)
            return entry_at(folder, name, there.path) == there
        except OSError:
            return False


class _Listed:
    """Finds what lies in the folders of the part and is not in the manifest; one folder's names on each level."""

    def __init__(self, verifying: Verification) -> None:
        self._verifying = verifying
        self._open: list[tuple[bytes, set[bytes]]] = []

    def enter(self, path: bytes, folder: int, name: bytes) -> None:
        """A folder whose content comes next. Raises OSError."""
        with open_folder(os.fsdecode(b"/proc/self/fd/%d/%s" % (folder, name))) as opened:
            self._open.append((b"" if path == ROOT else path, set(map(os.fsencode, os.listdir(opened)))))

    def meet(self, path: bytes) -> None:
        """The manifest has this entry."""
        if path == ROOT:
            return
        above, _, name = path.rpartition(b"/")
        self.leave(above)
        if self._open and self._open[-1][0] == above:
            self._open[-1][1].discard(name)

    def leave(self, folder: bytes) -> None:
        """What comes next lies in this folder: those that it is not in are done."""
        while self._open and not (folder + b"/").startswith(self._open[-1][0] + b"/" if self._open[-1][0] else b""):
            self._tell(*self._open.pop())

    def end(self) -> None:
        """Nothing comes any more."""
        while self._open:
            self._tell(*self._open.pop())

    def _tell(self, folder: bytes, left: set[bytes]) -> None:
        for name in sorted(left):
            self._verifying.add(folder + b"/" + name if folder else name)
