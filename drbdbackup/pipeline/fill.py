"""Has what changed copied, plain files here and the rest by rsync, a chunk at a time, and writes down the hashes.

What was seen before the copy is recorded, so a file that changed meanwhile differs next time. An entry that rsync
could not copy is a problem, never an end. Nothing is written outside the fresh folder and the scratch folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from stat import S_IMODE

from drbdbackup import proc
from drbdbackup.manifest import CHANGED, NOTHING, RACY, SETTLE_NS, SETTLED, Entry, encode_attributes, parse
from drbdbackup.pipeline.attributes import attributes
from drbdbackup.pipeline.pace import Pace
from drbdbackup.pipeline.plain import Plain
from drbdbackup.pipeline.plan import is_plain, size_of
from drbdbackup.scan import kind_of
from drbdbackup.targets import removal
from drbdbackup.tools import rsync

POLL = 0.2
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # the last two: a folder above has become something else


@dataclass(slots=True)
class Place:
    """Where from, where to and how: `started_ns` is the walk's start, `scratch` a local folder for lists.

    `clone`: `data` holds an older copy's entries already. `check_source` raises if the source is not there any more.
    """

    source: str
    data: str
    scratch: str
    holds: rsync.Holds
    started_ns: int = 0
    nanoseconds: bool = True
    clone: bool = False
    check_source: Callable[[], None] = lambda: None

    @property
    def holds_all(self) -> bool:
        """Whether the target can hold all that a file has."""
        return self.nanoseconds and self.holds == rsync.Holds()

    def kept(self, path: bytes) -> bytes:
        """The attributes that the target cannot hold, as the manifest keeps them. Raises OSError."""
        if self.holds.acls and self.holds.xattrs:
            return NOTHING
        return encode_attributes(attributes(os.path.join(os.fsencode(self.source), path)))


def settled(ctime: int, started_ns: int) -> bytes:
    """The flag of an entry: one that changed shortly before the walk (or after it, by its clock) is not trusted."""
    return SETTLED if ctime < started_ns - SETTLE_NS else RACY


@dataclass(slots=True)
class Filled:
    """What came of it: entries copied, bytes of their content, and problems as (path, why)."""

    problems: list[tuple[bytes, str]] = field(default_factory=list)
    entries: int = 0
    changed: int = 0
    vanished: int = 0
    bytes: int = 0


class Filler:
    """Collects entries in merge order, has them copied and writes their manifest lines to `record` in the scratch
    folder.
    """

    def __init__(
        self, place: Place, record: str, filled: Filled, on_progress: Callable[[], None], kept: str | None = None
    ) -> None:
        """`on_progress` is called while `filled` grows. `kept` is a file on the target for the run after a crash: it
        has the lines of each chunk whose content is on the medium. Without it everything is one run.
        """
        self._place = place
        self._record = open(os.path.join(place.scratch, record), "wb", buffering=0)  # noqa: SIM115
        self._filled = filled
        self._on_progress = on_progress
        self._kept = kept
        self._plain: Plain | None = None
        if place.holds_all:
            self._plain = Plain(place.source, place.data, place.clone, self._came, self._copied)
        self._pace = Pace(is_steady=self._plain is not None)
        self._lines: dict[bytes, bytes] = {}
        self._fronts: dict[bytes, bytes] = {}
        self._hashes: dict[bytes, bytes] = {}
        self._bytes = 0
        self._by_inode: dict[int, bytes] = {}

    def add(self, path: bytes, line: bytes) -> None:
        """Copy this entry, soon."""
        self._lines[path] = line
        self._bytes += size_of(line)
        if self._plain is not None and is_plain(line):
            self._plain.add(path)
        if self._kept and self._pace.is_due(len(self._lines), self._bytes):
            self._keep(self._kept)

    def close(self) -> None:
        """Copy the rest; raises, as `add` does, for what ends the copy (no space, a dead target)."""
        self._run()
        self._record.close()

    def _run(self) -> bytes:
        """Copy what has been collected; its manifest lines."""
        if not self._lines:
            return b""
        if self._plain is not None:
            self._plain.finish()
        if rest := [path for path in self._lines if path not in self._fronts]:
            self._copy(rest)
        self._place.check_source()
        if not self._kept:
            self._by_inode = {os.lstat(self._at(path)).st_ino: found for path, found in self._hashes.items() if found}
        fronts = [(self._fronts.get(path) or self._front(path, line), line) for path, line in self._lines.items()]
        lines = b"".join(front + b" " + line for front, line in fronts if front)
        self._record.write(lines)
        self._lines.clear()
        self._fronts.clear()
        self._hashes.clear()
        self._bytes = 0
        return lines

    def _keep(self, file: str) -> None:
        """Content first: what the lines say must be true even after a power cut."""
        entries, size = len(self._lines), self._bytes
        lines = self._run()
        proc.run(proc.Command(("sync", "--file-system", self._place.data), timeout=proc.FOREVER))
        with open(file, "ab") as kept:
            kept.write(lines)
        self._pace.kept(entries, size)

    def _came(self, length: int) -> None:
        self._filled.bytes += length
        self._on_progress()

    def _copied(self, path: bytes, content: bytes, begins: bytes) -> None:
        """A plain file is there, with all that it has."""
        line = self._lines[path]
        self._filled.entries += 1
        if line.startswith(begins):
            flag = settled(int(line.split(b" ", 7)[6]), self._place.started_ns)
        else:
            self._filled.changed += 1
            flag = CHANGED
        self._fronts[path] = b" ".join((content, flag, NOTHING))

    def _copy(self, paths: list[bytes]) -> None:
        """Run rsync. The hash of each entry that it copied: empty for what has none (or is a further name)."""
        listing = os.path.join(self._place.scratch, "listing")
        with open(listing, "wb") as file:
            file.write(rsync.listing(paths))

        def heard(item: rsync.Item) -> None:
            self._filled.entries += 1
            self._filled.bytes += item.length if item.hash else 0
            self._hashes[item.path] = item.hash

        if self._place.clone:  # what rsync then fails to bring must not be taken for it
            for path in paths:
                with suppress(OSError):
                    os.unlink(self._at(path))
        command = rsync.filling(self._place.source, self._place.data, listing, self._place.holds)
        notes = follow(command, os.path.join(self._place.scratch, "output"), heard, self._on_progress)
        self._filled.problems.extend((b"", note) for note in notes)

    def _front(self, path: bytes, line: bytes) -> bytes:
        """The entry's `hash flag attributes`, or nothing (and a problem) if it has not been copied."""
        seen = parse(line)
        try:
            there = os.lstat(self._at(path))
            if kind_of(there.st_mode) != seen.kind or (seen.kind == b"f" and path not in self._hashes):
                removal.remove_tree(os.fsencode(self._place.data), path)
                self._missed(path)
                return b""
            content, flag = NOTHING, settled(seen.ctime, self._place.started_ns)
            if seen.kind == b"f":
                content = self._content(path, there.st_ino)
            if self._differs(path, seen, there):
                self._filled.changed += 1
                flag = CHANGED
            return b" ".join((content, flag, self._place.kept(path)))
        except FileNotFoundError:
            self._missed(path)
        except OSError as error:
            self._filled.problems.append((path, error.strerror or "could not be read again"))
        return b""

    def _content(self, path: bytes, inode: int) -> bytes:
        """The content's hash: rsync's, or that of another name of the inode, or read again where it gave none."""
        return self._hashes[path] or self._by_inode.get(inode) or self._digest(path)

    def _differs(self, path: bytes, seen: Entry, there: os.stat_result) -> bool:
        """Whether the copy is not what the walk saw, as far as the target holds it: it changed in between."""
        holds = self._place.holds
        if holds.owners and (there.st_uid, there.st_gid) != (seen.uid, seen.gid):
            return True
        if seen.kind == b"l":
            return os.readlink(self._at(path)) != seen.link
        if holds.owners and holds.modes and S_IMODE(there.st_mode) != seen.mode:
            return True
        if seen.kind != b"f":
            return False
        apart = abs(there.st_mtime_ns - seen.mtime)
        return there.st_size != seen.size or apart > (0 if self._place.nanoseconds else SETTLE_NS)

    def _missed(self, path: bytes) -> None:
        """Vanished is what files do; the rest is worth a word."""
        try:
            there = os.lstat(os.path.join(os.fsencode(self._place.source), path))
        except OSError as error:
            if error.errno in _GONE:
                self._filled.vanished += 1
            else:
                self._filled.problems.append((path, error.strerror or "not read"))
        else:
            was = parse(self._lines[path])
            if (there.st_ino, there.st_ctime_ns, kind_of(there.st_mode)) != (was.inode, was.ctime, was.kind):
                self._filled.changed += 1  # it went, or changed, and is (another) one now
            else:
                self._filled.problems.append((path, "could not be copied"))

    def _digest(self, path: bytes) -> bytes:
        """The content's hash where rsync gave none (a further name of an inode whose leader it left as it was)."""
        import xxhash

        state = xxhash.xxh128()
        with open(os.open(self._at(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            while piece := file.read(1 << 20):
                state.update(piece)
        return state.hexdigest().encode()

    def _at(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._place.data), path)


def follow(
    command: proc.Command, output: str, on_item: Callable[[rsync.Item], None], on_pause: Callable[[], None]
) -> tuple[str, ...]:
    """Run rsync with its stdout in the file `output` and tell `on_item` each line; its notes on single entries.

    `on_pause` is called as long as bytes move: a copy that hangs says nothing.
    """
    running = proc.start(command, stdout=output)
    stirred = -1
    try:
        with open(output, "rb") as lines:
            part = b""
            while True:
                exit_status = running.wait(POLL)
                while piece := lines.readline():
                    part += piece
                    if part.endswith(b"\n"):
                        item = rsync.item(part)
                        part = b""
                        if item is not None:
                            on_item(item)
                before, stirred = stirred, running.stirred()
                if stirred != before:
                    on_pause()
                if exit_status is not None:
                    return rsync.answered(exit_status, running.stderr)
    except BaseException:
        running.end()
        raise
