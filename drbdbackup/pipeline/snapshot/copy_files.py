"""Copies what changed: plain files itself, the rest with rsync, a chunk at a time; records the hashes.

What was seen before the copy is recorded, so a file that changed meanwhile differs next time. An entry that rsync
could not copy is a problem, never an end. Nothing is written outside the fresh folder and the scratch folder.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from itertools import islice
from stat import S_IMODE, S_ISREG

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import open_flags, plain_file, proc
from drbdbackup.errors import Damaged, FileTooLarge
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
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import grown
from drbdbackup.pipeline.files.content import content_hash, copy_content, drop_cached, hash_of
from drbdbackup.pipeline.files.metadata import ACLS, SET_ID, attributes, own, write_metadata
from drbdbackup.pipeline.files.page_cache import CacheLook, ReadOnce
from drbdbackup.pipeline.files.rate_limit import Pace
from drbdbackup.pipeline.files.rsync_run import follow
from drbdbackup.pipeline.snapshot import copy_deep_links, leased_files
from drbdbackup.pipeline.snapshot.checkpoints import Checkpoints
from drbdbackup.pipeline.snapshot.copy_plain_files import PlainCopier, PlainRead, opened_below
from drbdbackup.pipeline.snapshot.exchanged_files import FoldersAbove, SourceLook, WalkedFolder, as_read
from drbdbackup.pipeline.snapshot.plan import is_plain, size_of
from drbdbackup.pipeline.snapshot.target_limits import LIMITED, TOO_LARGE
from drbdbackup.pipeline.volume.hole_quota import HoleQuota
from drbdbackup.scan import HOLED, is_mostly_holes, kind_of
from drbdbackup.targets import removal
from drbdbackup.tools import rsync

_READABLE = 0o600
_TOGETHER = 1000  # entries that are written down, and signed, at a time
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # the last two: a folder above has become something else


class CopySettings(Struct, kw_only=True):
    """Where from, where to and how: `started_ns` is the walk's start, `scratch` a local folder for lists.

    `clone`: `data` holds an older copy's entries already. `check_source` raises if the source is not there any more.
    `rate`: see `CopyJob`. `reading` are the copies that read the source at the same time. `written` are files whose
    content may not be on the medium yet. `hole_quota` bounds the holes in files that rsync does not get; one that
    cannot be linked counts with each name.
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
    reading: ReadOnce = field(default_factory=ReadOnce)
    written: list[bytes] = field(default_factory=list)
    hole_quota: HoleQuota = field(default_factory=lambda: HoleQuota(each_name=True))

    def forget_written(self) -> None:
        """All of it is on the medium: the page cache need not hold it."""
        data = os.fsencode(self.data)
        for path in self.written:
            drop_cached(b"%b/%b" % (data, path))
        self.written.clear()

    @property
    def holds_all(self) -> bool:
        """Whether the target can hold all that a file has."""
        return self.nanoseconds and self.holds == rsync.Holds()

    @property
    def holds_attributes(self) -> bool:
        """Whether the target holds ACLs and extended attributes."""
        return self.holds.acls and self.holds.xattrs

    def kept(
        self, path: bytes, ctime: int, inode: int, problems: list[Problem], lacks: Collection[str] = (),
        given: Mapping[str, bytes] | None = None,
    ) -> bytes:  # fmt: skip
        """The attributes of an entry, as the manifest keeps them. Raises OSError.

        `given` are those that the copy got, if that is known. Else they are read of the source, and not known if that
        has another `ctime` by now; where the target does not hold them, none are noted of another `inode`. `lacks` is
        what the target cannot hold of this one entry. The manifest keeps no more than can be read again: what has more,
        and is not on the target, is one of the `problems`.
        """
        source = os.path.join(os.fsencode(self.source), path)
        if self.holds_attributes and not lacks:
            return noted(given) if given is not None else self._as_walked(source, ctime)
        word = encode_attributes(attributes_of(source, inode)[0] if given is None else given, lacks)
        if len(word) > LARGEST_ATTRIBUTES:
            problems.append(Problem.at(path, "its attributes are too large to be kept for it"))
            return encode_attributes({}, lacks) if lacks else NOTHING
        return word

    def _as_walked(self, source: bytes, ctime: int) -> bytes:
        try:
            found, seen = attributes_of(source)
            is_same = seen.st_ctime_ns == ctime
        except OSError as error:
            if error.errno in _GONE:
                return NOTHING
            raise
        return noted(own(found)) if is_same else NOTHING


def attributes_of(path: bytes, inode: int | None = None) -> tuple[dict[bytes, bytes], os.stat_result]:
    """The extended attributes of an entry, none if it is another `inode`, and what stat(2) says of that very one.

    By its name somebody else's could be read. Raises OSError.
    """
    entry = os.open(path, open_flags.PATH)
    try:
        seen = os.fstat(entry)
        return attributes(entry) if inode in (None, seen.st_ino) else {}, seen
    finally:
        os.close(entry)


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
    """What came of it: entries copied, bytes of their content, and problems."""

    problems: list[Problem] = field(default_factory=list)
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
        self._record = open(os.path.join(place.scratch, record), "wb")  # noqa: SIM115
        self._filled = filled
        self._on_progress = on_progress
        self._kept = kept
        self._plain: PlainCopier | None = None
        if place.holds_all:
            self._plain = PlainCopier(
                place.source, place.data, self._came, self._copied, place.reading, is_clone=place.clone
            )
        self._pace = Checkpoints(is_steady=self._plain is not None)
        self._entries = 0
        self._kept_up_to = 0
        self._lines: dict[bytes, bytes] = {}
        self._folders = FoldersAbove()
        self._above: dict[bytes, WalkedFolder | None] = {}
        self._again: dict[int, bytes] = {}
        self._fronts: dict[bytes, bytes] = {}
        self._hashes: dict[bytes, bytes] = {}
        self._not_for_rsync: set[bytes] = set()
        self._bytes = 0
        self._by_inode: dict[int, bytes] = {}
        self._first: dict[int, bytes] = {}
        self._is_noted = False
        self._pacing = Pace(place.rate)
        self._of_rsync: list[tuple[bytes, CacheLook]] = []
        self._patience = leased_files.PATIENCE

    def add(self, path: bytes, line: bytes, number: int = 0) -> None:
        """Copy this entry, soon; its number is that of its spool line."""
        self._lines[path] = line
        self._entries += 1
        self._above[path] = self._folders.above(path)
        self._bytes += size_of(line)
        if self._plain is not None and (is_plain(line) or self._is_first_of_large(path, line)):
            self._plain.add(path, number, grown(size_of(line)))
        elif self._plain is None and self._kept and is_plain(line):
            self._look_at(path, number)
        if self._kept and self._pace.is_due(self._entries, self._bytes):
            self._keep(self._kept)
        elif self._kept and not self._entries % _TOGETHER:
            self._write_down()

    def entered(self, line: bytes) -> None:
        """The spool line of a folder: what follows is in it."""
        self._folders.entered(line)

    def passed(self, number: int) -> None:
        """All that is to be copied up to this spool line has been added."""
        if self._plain is not None:
            self._plain.catch_up()
        if self._plain is not None or not self._lines:
            self._place.reading.passed(number)

    def _look_at(self, path: bytes, number: int) -> None:
        with suppress(OSError):
            file = os.open(os.path.join(os.fsencode(self._place.source), path), open_flags.READ)
            try:
                self._of_rsync.append((path, self._place.reading.look(number, file)))
            finally:
                os.close(file)

    def same_content(self, path: bytes, line: bytes, recorded: bytes, number: int = 0) -> bytes:
        """The `hash flag attributes` of a plain file whose content and attributes are those recorded of an older copy.

        Nothing if they are not, or that cannot be told: then it is copied. After a restore of the whole volume each
        file has another inode, and not one of them another content.
        """
        content, _, attributes_then = recorded.split(b" ")
        ctime, problems, size = int(line.split(b" ", 7)[6]), list[Problem](), size_of(line)
        source = os.path.join(os.fsencode(self._place.source), path)

        try:
            with self._place.reading.reading(source, number):
                found = content_hash(None, source, self._came_again, most=grown(size))
            if content != found.encode():
                return b""
            word = self._place.kept(path, ctime, int(line.split(b" ", 8)[7]), problems)
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

    def _write_down(self) -> None:
        """Write down what is done, and think of it no more: what comes after an entry that is not has to wait."""
        done = list[tuple[bytes, bytes, bytes]]()
        for path, line in self._lines.items():
            if not (front := self._fronts.get(path, b"")):
                break
            done.append((path, front, line))
        self._record.write(b"".join([b"%b %b" % (front, line) for _, front, line in done]))
        for path, _, _ in done:
            del self._lines[path], self._fronts[path], self._above[path]
        self._place.written += (path for path, _, line in done if line[:1] == b"f")

    def _run(self) -> None:
        """Copy what has been collected and write it down."""
        if not self._entries:
            return
        with ExitStack() as held:
            self._run_holding(held)
        self._lines.clear()
        self._above.clear()
        self._again.clear()
        self._fronts.clear()
        self._hashes.clear()
        self._not_for_rsync.clear()
        self._entries = self._bytes = 0

    def _run_holding(self, held: ExitStack) -> None:
        """The same. What rsync is to read stays `held` open until it has been held against what rsync has made of it:
        a lease that came in between would keep that from being opened again.
        """
        if self._plain is not None:
            self._plain.finish()
            for path, line in self._lines.items() if self._first else ():
                self._link_large(path, line)
            self._first.clear()
        rest = [path for path, line in self._lines.items() if path not in self._fronts and not self._linked(path, line)]
        if rest:
            self._copy(rest, held)
        for path, look in self._of_rsync:
            with suppress(OSError):
                file = os.open(os.path.join(os.fsencode(self._place.source), path), open_flags.READ)
                try:
                    self._place.reading.finished(look, file)
                finally:
                    os.close(file)
        self._of_rsync.clear()
        self._place.written += (path for path, line in self._lines.items() if line[:1] == b"f")
        self._place.check_source()
        if not self._kept:
            self._by_inode = {os.lstat(self._at(path)).st_ino: found for path, found in self._hashes.items() if found}
        source = opened_below(self._place.source, b"")
        try:
            by_name = SourceLook(source)
            for path, line in tuple(self._lines.items()):  # a line may get the owner and mode of what was read
                if front := self._fronts.get(path) or self._front(path, line, by_name):
                    self._record.write(b"%b %b" % (front, self._lines[path]))
        finally:
            os.close(source)
        self._record.flush()

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
        entries, size = self._entries, self._bytes
        self._run()
        proc.run(proc.Command(argv=("sync", "--file-system", self._place.data), timeout=proc.FOREVER))
        self._place.forget_written()
        with open(self._record.name, "rb") as record, open(kept.file, "ab") as file:
            record.seek(self._kept_up_to)
            while lines := b"".join(islice(record, _TOGETHER)):
                file.write(kept.sign(lines))
            self._kept_up_to = record.tell()
        self._pace.kept(entries, size)

    def _came(self, length: int, read: int) -> None:
        self._filled.bytes += length
        self._pacing.spend(read)
        self._on_progress()

    def _came_again(self, length: int) -> None:
        """Bytes that are read beside what is counted as copied: the limit of the rate is for them, too."""
        self._pacing.spend(length)
        self._on_progress()

    def _copied(
        self, path: bytes, content: bytes, read: PlainRead, lacks: Collection[str], given: Mapping[bytes, bytes]
    ) -> None:
        """A plain file is there, with all that it has but what it `lacks`."""
        line = self._lines[path]
        self._filled.entries += 1
        ctime = int(line.split(b" ", 7)[6])
        self._lines[path] = as_read(line, read.seen, read.folder, self._above[path])
        if self._lines[path] == line and line.startswith(read.begins):
            flag = settled(ctime, self._place.started_ns)
        else:
            self._filled.changed += 1
            flag = CHANGED
        if read.seen.st_nlink > 1:  # its other names, which rsync brings, become names of this one where it changed
            self._again[read.seen.st_ino], self._hashes[path] = path, content
        word = self._place.kept(path, ctime, read.seen.st_ino, self._filled.problems, lacks, own(given))
        self._fronts[path] = b" ".join((content, flag, word))

    def _copy(self, paths: list[bytes], held: ExitStack) -> None:
        """Run rsync on what nobody keeps from being read."""
        files = (path for path in paths if _may_be_leased(self._lines[path]))
        holding = leased_files.held_open(self._place.source, files, self._patience)
        leased, self._patience = held.enter_context(holding)
        for path in sorted(leased):
            self._filled.problems.append(Problem.at(path, leased_files.WHY))
            del self._lines[path]
        if left := [path for path in paths if path not in leased]:
            self._copy_listed(left)

    def _copy_listed(self, names: list[bytes]) -> None:
        """Run rsync. The hash of each entry that it copied: empty for what has none (or is a further name).

        Of holes it would read each, 0.2 GiB a second: large files of them are copied when all else is there.
        """
        self._not_for_rsync |= set(filter(self._is_mostly_holes, names))
        paths = [path for path in names if path not in self._not_for_rsync]
        if not paths:
            return None
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
        most = sum(size_of(self._lines[path]) for path in paths)
        try:
            notes = follow(command, os.path.join(self._place.scratch, "output"), heard, self._on_progress, most)
        except Damaged:  # somebody lets files grow while they are read
            self._take_from_rsync(paths)
            return self._copy_listed(paths) if (paths := [one for one in paths if one not in self._hashes]) else None
        except FileTooLarge as error:  # it ends rsync
            path = os.path.relpath(error.path, os.fsencode(self._place.data))
            left = [one for one in paths if one not in self._hashes and one != path]
            if len(left) == len(paths):
                raise
            self._filled.problems.append(Problem.at(path, _too_large()))
            self._lines.pop(path, None)
            return self._copy_listed(left) if left else None
        self._is_noted = self._is_noted or bool(notes)
        for note in notes:  # what these leave undone is seen of the entries themselves
            if not (rsync.is_of_metadata(note) or rsync.is_of_links(note) or rsync.is_of_depth(note)):
                self._filled.problems.append(Problem("", note))
        if any(map(rsync.is_of_links, notes)):  # those that are left get an inode of their own
            left = [path for path in paths if path not in self._hashes and not os.path.lexists(self._at(path))]
            if 0 < len(left) < len(paths):
                return self._copy_listed(left)
        return None

    def _is_mostly_holes(self, path: bytes) -> bool:
        if self._lines[path][:1] != b"f":
            return False
        try:
            seen = os.lstat(os.path.join(os.fsencode(self._place.source), path))
        except OSError:
            return False
        return S_ISREG(seen.st_mode) and is_mostly_holes(seen)

    def _take_from_rsync(self, paths: list[bytes]) -> None:
        """What files it has not brought are copied here, and no more of each than it may have."""
        for path in paths:
            was = parse(self._lines[path])
            if was.kind == b"f" and path not in self._hashes:
                self._not_for_rsync.add(path)
            elif self._hashes.get(path) and was.nlink > 1:
                self._again.setdefault(was.inode, path)

    def _front(self, path: bytes, line: bytes, look: SourceLook) -> bytes:
        """The entry's `hash flag attributes`, or nothing (and a problem) if it has not been copied."""
        seen = parse(line)
        try:
            content, flag, is_other = NOTHING, settled(seen.ctime, self._place.started_ns), False
            if path in self._not_for_rsync:
                content, is_other = self._vouched(path, line, look, b"")
                self._filled.entries += 1
                there = os.lstat(self._at(path))
            else:
                there = os.lstat(self._at(path))
                if kind_of(there.st_mode) != seen.kind or (seen.kind == b"f" and path not in self._hashes):
                    removal.remove_tree(os.fsencode(self._place.data), path)
                    self._missed(path)
                    return b""
                if seen.kind == b"f":
                    content, is_other = self._vouched(path, line, look, self._content(path, there.st_ino))
                    there = os.lstat(self._at(path)) if is_other else there
            lacks = self._lacks(path, seen, there)
            if is_other or (not lacks and self._differs(path, seen, there)):
                self._filled.changed += 1
                flag = CHANGED
            word = self._place.kept(path, seen.ctime, seen.inode, self._filled.problems, lacks)
            return b" ".join((content, flag, word))
        except OSError as error:
            if error.errno in (*_GONE, errno.EINVAL):
                self._missed(path)
            elif error.errno == errno.EFBIG:
                self._filled.problems.append(Problem.at(path, _too_large()))
            else:
                self._filled.problems.append(Problem.at(path, error.strerror or "could not be read again"))
        return b""

    def _vouched(self, path: bytes, line: bytes, look: SourceLook, content: bytes) -> tuple[bytes, bool]:
        """The hash of a file's content, and whether it is not surely the one that the walk saw.

        rsync reads what a name leads to. Then it is held against one open file, or copied anew from that: owner and
        mode in the file's line are those of this one. What has no `content` yet is copied from that, too. Raises
        OSError; of what is gone nothing is left.
        """
        seen, walked, at = parse(line), self._above[path], self._at(path)
        try:
            with look.opened(path) as (file, now, folder):
                is_same = (now.st_ino, now.st_ctime_ns) == (seen.inode, seen.ctime)
                if content and is_same and look.is_unmoved(walked):
                    return content, False
                self._lines[path] = as_read(line, now, folder, walked)
                if now.st_ino in self._again and self._is_joined(path, self._again[now.st_ino]):
                    return self._hashes[self._again[now.st_ino]], bool(content) or not is_same
                if not content:
                    self._place.hole_quota.check(now)
                is_there = os.path.lexists(at)
                most = grown(seen.size)
                is_other = not (is_there and content) or hash_of(file, self._came_again, most).encode() != content
                self._hashes[path] = self._copied_again(path, file, now, most) if is_other else content
                self._filled.bytes += 0 if content else min(now.st_size, most)
                if now.st_nlink > 1:
                    self._again[now.st_ino] = path
                return self._hashes[path], (is_other and bool(content)) or not is_same
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise rsync.full(is_quota=error.errno == errno.EDQUOT) from None
            with suppress(FileNotFoundError):
                os.unlink(at)
            raise

    def _is_joined(self, path: bytes, first: bytes) -> bool:
        """Whether it is one more name of what was held against the file before, or has become one."""
        at, leader = self._at(path), self._at(first)
        if os.path.lexists(at):
            if os.path.samestat(os.lstat(at), os.lstat(leader)):
                return True
            os.unlink(at)
        try:
            os.link(leader, at, follow_symlinks=False)
        except OSError:  # a share without links, or there are too many
            return False
        return True

    def _copied_again(self, path: bytes, file: int, now: os.stat_result, most: int) -> bytes:
        """Copy an open file to where rsync has put another, an older state of it, or nothing; the hash of its content.

        No more than `most` bytes of it come.
        """
        holds, at = self._place.holds, self._at(path)
        with suppress(FileNotFoundError):
            os.unlink(at)
        os.lseek(file, 0, os.SEEK_SET)
        target = os.open(at, open_flags.CREATE, 0o600)
        try:
            content = copy_content(file, target, now, lambda _, read: self._came_again(read), most).encode()
            was = parse(self._lines[path])
            mode = was.mode if holds.owners else was.mode & ~SET_ID | _READABLE  # as rsync does it
            entry = replace(was, mode=mode, mtime=now.st_mtime_ns)
            extended = {os.fsdecode(name): value for name, value in held(attributes(file), holds).items()}
            lost = write_metadata(target, entry, extended, owners=holds.owners, modes=holds.modes)
            self._is_noted = self._is_noted or bool(lost)
        finally:
            os.close(target)
        return content

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
        """A file that vanished is normal; every other problem is noted."""
        try:
            there = os.lstat(os.path.join(os.fsencode(self._place.source), path))
        except OSError as error:
            if error.errno in _GONE:
                self._filled.vanished += 1
            else:
                self._filled.problems.append(Problem.at(path, error.strerror or "not read"))
        else:
            was = parse(self._lines[path])
            if (there.st_ino, there.st_ctime_ns, kind_of(there.st_mode)) != (was.inode, was.ctime, was.kind):
                self._filled.changed += 1  # it went, or changed, and is (another) one now
            else:
                self._filled.problems.append(Problem.at(path, "could not be copied"))

    def _digest(self, path: bytes) -> bytes:
        """The content's hash where rsync gave none (a further name of an inode whose leader it left as it was)."""
        return content_hash(None, self._at(path), most=grown(size_of(self._lines[path]))).encode()

    def _at(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self._place.data), path)


def _too_large() -> str:
    return LIMITED if plain_file.is_size_limited() else TOO_LARGE


def _may_be_leased(line: bytes) -> bool:
    """Whether a spool line is of a file of somebody else's: nobody but root has a lease on root's."""
    kind, _, uid, _ = line.split(b" ", 3)
    return kind == b"f" and uid != b"0"
