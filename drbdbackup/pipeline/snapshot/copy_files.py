"""Copies what changed: plain files itself, the rest with rsync, a chunk at a time; records the hashes.

What was seen before the copy is recorded, so a file that changed meanwhile differs next time. An entry that rsync
could not copy is a problem, never an end. Nothing is written outside the fresh folder and the scratch folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from stat import S_IMODE

from msgspec import Struct, field

from drbdbackup import proc
from drbdbackup.errors import FileTooLarge
from drbdbackup.manifest import (
    CHANGED,
    LARGEST_ATTRIBUTES,
    LARGEST_VALUE,
    NOTHING,
    RACY,
    SETTLE_NS,
    SETTLED,
    Entry,
    encode_attributes,
    is_odd_time,
    parse,
)
from drbdbackup.pipeline.files.compare import grown
from drbdbackup.pipeline.files.content import PIECE, content_hash
from drbdbackup.pipeline.files.metadata import ACLS, attributes, own
from drbdbackup.pipeline.files.rate_limit import Pace
from drbdbackup.pipeline.files.rsync_run import follow
from drbdbackup.pipeline.snapshot import copy_deep_links
from drbdbackup.pipeline.snapshot.checkpoints import Checkpoints
from drbdbackup.pipeline.snapshot.copy_plain_files import PlainCopier
from drbdbackup.pipeline.snapshot.plan import is_plain, size_of
from drbdbackup.pipeline.snapshot.target_limits import TOO_LARGE
from drbdbackup.scan import HOLED, kind_of
from drbdbackup.targets import removal
from drbdbackup.tools import rsync

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # the last two: a folder above has become something else


class CopySettings(Struct, kw_only=True):
    """Where from, where to and how: `started_ns` is the walk's start, `scratch` a local folder for lists.

    `clone`: `data` holds an older copy's entries already. `check_source` raises if the source is not there any more.
    `rate`: see `CopyJob`.
    """

    source: str
    data: str
    scratch: str
    holds: rsync.Holds
    started_ns: int = 0
    nanoseconds: bool = True
    clone: bool = False
    check_source: Callable[[], None] = lambda: None
    rate: int = 0

    @property
    def holds_all(self) -> bool:
        """Whether the target can hold all that a file has."""
        return self.nanoseconds and self.holds == rsync.Holds()

    @property
    def holds_attributes(self) -> bool:
        """Whether the target holds ACLs and extended attributes."""
        return self.holds.acls and self.holds.xattrs

    def kept(
        self, path: bytes, ctime: int, problems: list[tuple[bytes, str]], lacks: Collection[str] = (),
        given: Mapping[str, bytes] | None = None,
    ) -> bytes:  # fmt: skip
        """The attributes of an entry, as the manifest keeps them. Raises OSError.

        `given` are those that the copy got, if that is known. Else they are read of the source, and not known if that
        has another `ctime` by now. `lacks` is what the target cannot hold of this one entry. The manifest keeps no
        more than can be read again: what has more, and is not on the target, is one of the `problems`.
        """
        source = os.path.join(os.fsencode(self.source), path)
        if self.holds_attributes and not lacks:
            return noted(given) if given is not None else self._as_walked(source, ctime)
        word = encode_attributes(attributes(source), lacks)
        if len(word) > LARGEST_ATTRIBUTES:
            problems.append((path, "its attributes are too large to be kept for it"))
            return encode_attributes({}, lacks) if lacks else NOTHING
        return word

    def _as_walked(self, source: bytes, ctime: int) -> bytes:
        try:
            found = own(attributes(source))
            is_same = os.lstat(source).st_ctime_ns == ctime
        except OSError as error:
            if error.errno in _GONE:
                return NOTHING
            raise
        return noted(found) if is_same else NOTHING


def noted(given: Mapping[str, bytes]) -> bytes:
    """The attributes that a copy got on a target that holds them, as a word of the manifest: it vouches for them."""
    word = encode_attributes(given, longest=LARGEST_VALUE)
    return word if len(word) <= LARGEST_ATTRIBUTES else NOTHING


def held(extended: Mapping[bytes, bytes], holds: rsync.Holds) -> dict[bytes, bytes]:
    """The extended attributes that the target can hold."""
    return {
        name: value
        for name, value in extended.items()
        if (holds.acls if name.startswith(ACLS.encode()) else holds.xattrs)
    }


def settled(ctime: int, started_ns: int) -> bytes:
    """The flag of an entry: one that changed shortly before the walk (or after it, by its clock) is not trusted."""
    return SETTLED if ctime < started_ns - SETTLE_NS else RACY


class Copied(Struct):
    """What came of it: entries copied, bytes of their content, and problems as (path, why)."""

    problems: list[tuple[bytes, str]] = field(default_factory=list)
    entries: int = 0
    changed: int = 0
    vanished: int = 0
    bytes: int = 0


class ResumeFile(Struct, frozen=True):
    """A file on the target for the run after a crash: the lines of each chunk whose content is on the medium.

    `sign` adds to a chunk what makes it believed.
    """

    file: str
    sign: Callable[[bytes], bytes]


class Copier:
    """Collects entries in merge order, has them copied and writes their manifest lines to `record` in the scratch
    folder.
    """

    def __init__(
        self, place: CopySettings, record: str, filled: Copied, on_progress: Callable[[], None],
        kept: ResumeFile | None = None,
    ) -> None:  # fmt: skip
        """`on_progress` is called while `filled` grows. Without `kept` everything is one run."""
        self._place = place
        self._record = open(os.path.join(place.scratch, record), "wb", buffering=0)  # noqa: SIM115
        self._filled = filled
        self._on_progress = on_progress
        self._kept = kept
        self._plain: PlainCopier | None = None
        if place.holds_all:
            self._plain = PlainCopier(place.source, place.data, place.clone, self._came, self._copied)
        self._pace = Checkpoints(is_steady=self._plain is not None)
        self._lines: dict[bytes, bytes] = {}
        self._fronts: dict[bytes, bytes] = {}
        self._hashes: dict[bytes, bytes] = {}
        self._bytes = 0
        self._by_inode: dict[int, bytes] = {}
        self._first: dict[int, bytes] = {}
        self._is_noted = False
        self._pacing = Pace(place.rate)

    def add(self, path: bytes, line: bytes) -> None:
        """Copy this entry, soon."""
        self._lines[path] = line
        self._bytes += size_of(line)
        if self._plain is not None and (is_plain(line) or self._is_first_of_large(path, line)):
            self._plain.add(path)
        if self._kept and self._pace.is_due(len(self._lines), self._bytes):
            self._keep(self._kept)

    def same_content(self, path: bytes, line: bytes, recorded: bytes) -> bytes:
        """The `hash flag attributes` of a plain file whose content and attributes are those recorded of an older copy.

        Nothing if they are not, or that cannot be told: then it is copied. After a restore of the whole volume each
        file has another inode, and not one of them another content.
        """
        content, _, attributes_then = recorded.split(b" ")
        ctime, problems, size = int(line.split(b" ", 7)[6]), list[tuple[bytes, str]](), size_of(line)
        source = os.path.join(os.fsencode(self._place.source), path)

        def on_piece() -> None:
            self._pacing.spend(min(size, PIECE))
            self._on_progress()

        try:
            if content != content_hash(None, source, on_piece, most=grown(size)).encode():
                return b""
            word = self._place.kept(path, ctime, problems)
            if word in (NOTHING, b"") or word != attributes_then or os.lstat(source).st_ctime_ns != ctime:
                return b""
        except OSError:
            return b""
        return b" ".join((content, settled(ctime, self._place.started_ns), word))

    def _is_first_of_large(self, path: bytes, line: bytes) -> bool:
        """Whether it is the first name of a large file of several, whose holes rsync would read. The others wait."""
        if self._kept or size_of(line) < HOLED:
            return False
        return self._first.setdefault(int(line.split(b" ", 8)[7]), path) == path

    def _link_large(self, path: bytes, line: bytes) -> None:
        """A further name of a large file, once its first is there, if both are what the walk saw; else rsync looks."""
        first = self._first.get(int(line.split(b" ", 8)[7]), path) if size_of(line) >= HOLED else path
        front = self._fronts.get(first, b"")
        if first == path or not front or front.split(b" ", 2)[1] == CHANGED:
            return
        with suppress(OSError):
            there, was = os.lstat(os.path.join(os.fsencode(self._place.source), path)), parse(line)
            if (there.st_ino, there.st_ctime_ns, kind_of(there.st_mode)) != (was.inode, was.ctime, was.kind):
                return
            if self._place.clone:
                with suppress(FileNotFoundError):
                    os.unlink(self._at(path))
            os.link(self._at(first), self._at(path), follow_symlinks=False)
            self._fronts[path] = front
            self._filled.entries += 1

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
            for path, line in self._lines.items() if self._first else ():
                self._link_large(path, line)
            self._first.clear()
        rest = [path for path, line in self._lines.items() if path not in self._fronts and not self._linked(path, line)]
        if rest:
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

    def _linked(self, path: bytes, line: bytes) -> bool:
        """Whether it is a symlink too deep for rsync, which has been copied without it, or cannot be copied."""
        if not self._place.holds_all or not copy_deep_links.is_deep_link(path, line):
            return False
        try:
            copy_deep_links.copy(self._place.source, self._place.data, path)
            self._filled.entries += 1
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise rsync.full(is_quota=error.errno == errno.EDQUOT) from None
        return True

    def _keep(self, kept: ResumeFile) -> None:
        """Content first: what the lines say must be true even after a power cut."""
        entries, size = len(self._lines), self._bytes
        lines = self._run()
        proc.run(proc.Command(argv=("sync", "--file-system", self._place.data), timeout=proc.FOREVER))
        with open(kept.file, "ab") as file:
            file.write(kept.sign(lines))
        self._pace.kept(entries, size)

    def _came(self, length: int) -> None:
        self._filled.bytes += length
        self._pacing.spend(length)
        self._on_progress()

    def _copied(
        self, path: bytes, content: bytes, begins: bytes, lacks: Collection[str], given: Mapping[bytes, bytes]
    ) -> None:
        """A plain file is there, with all that it has but what it `lacks`."""
        line = self._lines[path]
        self._filled.entries += 1
        ctime = int(line.split(b" ", 7)[6])
        if line.startswith(begins):
            flag = settled(ctime, self._place.started_ns)
        else:
            self._filled.changed += 1
            flag = CHANGED
        word = self._place.kept(path, ctime, self._filled.problems, lacks, own(given))
        self._fronts[path] = b" ".join((content, flag, word))

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
        command = rsync.filling(self._place.source, self._place.data, listing, self._place.holds, self._place.rate)
        try:
            notes = follow(command, os.path.join(self._place.scratch, "output"), heard, self._on_progress)
        except FileTooLarge as error:  # it ends rsync
            path = os.path.relpath(error.path, os.fsencode(self._place.data))
            left = [one for one in paths if one not in self._hashes and one != path]
            if len(left) == len(paths):
                raise
            self._filled.problems.append((path, TOO_LARGE))
            self._lines.pop(path, None)
            return self._copy(left) if left else None
        self._is_noted = self._is_noted or bool(notes)
        for note in notes:  # what these leave undone is seen of the entries themselves
            if not (rsync.is_of_metadata(note) or rsync.is_of_links(note) or rsync.is_of_depth(note)):
                self._filled.problems.append((b"", note))
        if any(map(rsync.is_of_links, notes)):  # those that are left get an inode of their own
            left = [path for path in paths if path not in self._hashes and not os.path.lexists(self._at(path))]
            if 0 < len(left) < len(paths):
                return self._copy(left)
        return None

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
            lacks = self._lacks(path, seen, there)
            if not lacks and self._differs(path, seen, there):
                self._filled.changed += 1
                flag = CHANGED
            return b" ".join((content, flag, self._place.kept(path, seen.ctime, self._filled.problems, lacks)))
        except OSError as error:
            if error.errno in _GONE:
                self._missed(path)
            else:
                self._filled.problems.append((path, error.strerror or "could not be read again"))
        return b""

    def _content(self, path: bytes, inode: int) -> bytes:
        """The content's hash: rsync's, or that of another name of the inode, or read again where it gave none."""
        return self._hashes[path] or self._by_inode.get(inode) or self._digest(path)

    def _lacks(self, path: bytes, seen: Entry, there: os.stat_result) -> frozenset[str]:
        """What of an entry that did not change the copy does not have, where rsync noted something, or did not see it.

        Raises OSError.
        """
        holds = self._place.holds
        if not self._is_noted and not is_odd_time(seen.mtime):
            return frozenset()
        source = os.path.join(os.fsencode(self._place.source), path)
        try:
            now, has = os.lstat(source), attributes(source)
        except OSError as error:
            if error.errno in _GONE:  # the copy is there all the same
                return frozenset()
            raise
        if (now.st_ino, now.st_ctime_ns) != (seen.inode, seen.ctime):
            return frozenset()
        found = {
            "owner": holds.owners and (there.st_uid, there.st_gid) != (seen.uid, seen.gid),
            "mode": holds.owners and holds.modes and seen.kind != b"l" and S_IMODE(there.st_mode) != seen.mode,
            "times": abs(there.st_mtime_ns - seen.mtime) > SETTLE_NS,
            "attributes": not held(has, holds).items() <= attributes(self._at(path)).items(),
        }
        return frozenset(what for what, is_lacking in found.items() if is_lacking)

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
        return content_hash(None, self._at(path), most=grown(size_of(self._lines[path]))).encode()

    def _at(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._place.data), path)
