"""Makes a replica's tree and manifest on a disk of this node: links what the disk has, and fetches the rest.

No tree is walked. What there is to be is said by the manifest of the copy that is fetched, what the disk has by its own
last one. Everything that is fetched is held against the manifest; what is not as it says is damaged, and named. Nothing
here publishes, or writes into a published snapshot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import BinaryIO

from msgspec import Struct, field
from msgspec.structs import astuple

from drbdbackup import manifest, proc
from drbdbackup.manifest import (
    CHANGED,
    KINDS,
    LARGEST_ATTRIBUTES,
    NOTHING,
    RACY,
    ROOT,
    Entry,
    KnownAttributes,
    Recorded,
    encode_attributes,
    is_short,
    is_unknown,
    lacks_of,
    path_of,
    recorded,
    split,
)
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.copies.open_copy import OpenCopy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import (
    attributes_then,
    expected_size,
    is_aside,
    is_privileged,
    largest,
    odd_time,
    paired,
    recorded_below,
)
from drbdbackup.pipeline.files.content import ContentHashes, drop_cached
from drbdbackup.pipeline.files.metadata import attributes, lacks, own, write_metadata
from drbdbackup.pipeline.files.rate_limit import Pace
from drbdbackup.pipeline.files.rsync_run import AROUND_ENTRY, follow, peer_errors_checked
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.pipeline.restore import copy_sparse_files
from drbdbackup.pipeline.restore.apply_metadata import (
    MetadataWriter,
    TreeMetadataWriter,
    as_far_as_known,
    has_split_links,
    is_needed,
    is_other,
)
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.transfer_list import DEEPEST, TransferList, ends
from drbdbackup.pipeline.snapshot import plan
from drbdbackup.pipeline.snapshot.checkpoints import Checkpoints
from drbdbackup.pipeline.snapshot.copy_files import noted
from drbdbackup.pipeline.snapshot.hard_links import Linker
from drbdbackup.pipeline.snapshot.plan import Base, Planned, Planner, Step
from drbdbackup.pipeline.snapshot.target_limits import short
from drbdbackup.pipeline.snapshot.workspace import COPIED, PLAN
from drbdbackup.targets import removal
from drbdbackup.targets.sidecar import MANIFEST
from drbdbackup.tools import rsync

_BEAT = 0xFFF  # entries between two signs of life
_CHUNK = 1000  # entries that are signed together


class Replica(Struct, kw_only=True):
    """A replica under way: `copy` is what it is made from, `fresh` the `.partial-` folder on the disk, with `data`.

    `updating`: `data` is a writable clone of the newest base. The first `published` of the `bases` are snapshots, the
    others what interrupted replications left. `sign` makes a chunk of notes
    that the next run believes; `tell` gets entries met, bytes done, and bytes fetched. `rate`: see `ReplicateJob`.
    """

    copy: OpenCopy
    fresh: str
    data: str
    scratch: str
    bases: list[Base]
    published: int
    updating: bool
    sign: Callable[[bytes], bytes]
    tell: Callable[[int, int, int], None]
    met: int = 0
    linked: int = 0
    linked_bytes: int = 0
    files: int = 0
    size: int = 0
    damaged: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    short: dict[bytes, frozenset[str]] = field(default_factory=dict)
    kept: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    is_unsure: bool = False
    rate: int = 0

    def step(self) -> None:
        """It moves."""
        self.tell(self.met, self.linked_bytes + self.size, self.size)

    @contextmanager
    def recorded(self) -> Iterator[_Passing]:
        """The manifest's entries."""
        with manifest.reading(self.copy.manifest) as lines:
            yield _Passing(lines)

    def planned(self, planner: Planner) -> Iterator[tuple[Planned, Recorded]]:
        """The plan again, with the last word on every entry, and the entry."""
        with self.recorded() as entries, open(os.path.join(self.scratch, PLAN), "rb", buffering=1 << 18) as lines:
            for line, one in zip(lines, entries, strict=True):
                yield planner.resolve(plan.read(line)), one

    def lost(self, path: bytes, what: Iterable[str]) -> None:
        """What of an entry could not be given to it here: the manifest keeps that."""
        self.short[path] = self.short.get(path, frozenset()) | lacks(what)

    @property
    def writer(self) -> MetadataWriter:
        """What gives entries their metadata."""
        return MetadataWriter(self.copy.can, self.copy.is_own)

    def write_metadata(self, at: bytes, one: Recorded, there: Entry, *, is_noted: bool, source: bytes | None) -> str:
        """Give an entry what the manifest says of it, where its medium shows something else by now; what is damaged.

        `source` is the entry on that medium (None: it cannot be looked at), `is_noted` that rsync could not give all.
        What this disk cannot hold is kept for the manifest.
        """
        path, entry = one.entry.path, as_far_as_known(one, there)
        written = self.writer.write(at, one, entry, is_other=is_other(entry, there))
        if written.lost:
            self.lost(path, written.lost)
        if odd_time(one, there):
            self.lost(path, ("times",))
        if written.removed and not one.attributes:  # else it is what was backed up
            self.problems += (Problem.at(path, why) for why in written.of_medium)
        kept = self._on_medium(one, source) if source is not None and (is_noted or written.missing) else {}
        if kept and not kept.items() <= own(attributes(at)).items():
            self.lost(path, ("attributes",))
        if source is None and written.missing:
            self.lost(path, ("attributes",))
        if path in self.short:
            then = attributes_then(one, self.copy.can)
            if then is not None and then.digests:  # all of them are kept then, and they came as they were
                kept |= {name: value for name, value in own(attributes(at)).items() if then.are(name, value)}
            self.kept[path] = kept
        gone = [name for name in written.missing if name not in kept and source is not None]
        return f"has other attributes than were backed up: {', '.join(gone)}" if gone else ""

    def _on_medium(self, one: Recorded, source: bytes) -> dict[str, bytes]:
        """The attributes of an entry there that it may have."""
        found, then = own(attributes(source)), attributes_then(one, self.copy.can)
        if then is None:
            return {name: value for name, value in found.items() if not is_privileged(name)}
        return {name: value for name, value in found.items() if then.are(name, value)}


class Filled(Struct, frozen=True):
    """What `fill` has made: the SHA-256 of `manifest.gz`, and the number of entries in it."""

    manifest_sha256: str
    entries: int


class _Passing:
    """The entries of a manifest; `line` is that of the one that came last."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.line = b""
        self._lines = lines

    def __iter__(self) -> Iterator[Recorded]:
        return recorded_below(self._each(), b"")

    def _each(self) -> Iterator[bytes]:
        for line in self._lines:
            self.line = line
            yield line


def fill(replica: Replica, workers: int) -> Filled | None:
    """Fill `data` and write the manifest; None if something is damaged. `workers` is how many links to make at a time.

    Raises what ends the copy: no room, a disk or a source that is gone.
    """
    planner = Planner(replica.bases, KINDS)
    with ExitStack() as stack:
        linker = Linker([base.data for base in replica.bases], replica.data, workers)
        stack.callback(linker.close)
        folder = stack.enter_context(tree.open_folder(replica.data))
        fetcher = Fetcher(replica, folder, os.path.join(replica.fresh, COPIED))
        with open(os.path.join(replica.scratch, PLAN), "wb") as planned:
            _first_pass(replica, planner, linker, fetcher, folder, planned)
        fetcher.finish()
        last = Fetcher(replica, folder, "")
        if planner.has_groups:
            for one_planned, one in replica.planned(planner):
                if one_planned.step is Step.COPY_GROUP:
                    last.add(one)
                elif one_planned.step is Step.LINK_GROUP:
                    _link(replica, linker, one_planned, one)
        linker.finish()
        last.finish()
        if linker.failed:
            for one_planned, one in replica.planned(planner):
                if one_planned.step in (Step.LINK, Step.LINK_GROUP) and one.entry.path in linker.failed:
                    last.add(one)
            last.finish()
        _write_folders(replica, planner, folder)
        if replica.damaged:
            _note_all(replica, planner)
            return None
    return _write_manifest(replica, planner)


def _first_pass(
    replica: Replica, planner: Planner, linker: Linker, fetcher: Fetcher, folder: int, planned: BinaryIO
) -> None:
    """Decide for each entry; make folders, link and fetch what needs no second thought."""
    def gone(line: bytes) -> None:
        if replica.updating:
            removal.remove_tree(os.fsencode(replica.data), path_of(line))

    for base in replica.bases[:1]:
        base.on_gone = gone
    with replica.recorded() as entries:
        for one in entries:
            replica.met += 1
            if not replica.met & _BEAT:
                replica.step()
            decided = _decided(planner, one, entries.line)
            planned.write(plan.write(decided))
            if decided.step is Step.FOLDER:
                with suppress(FileExistsError):
                    os.mkdir(one.entry.path, 0o700, dir_fd=folder)
            elif decided.step is Step.LINK:
                _link(replica, linker, decided, one)
            elif decided.step is Step.COPY:
                fetcher.add(one)
    for base in replica.bases:
        base.finish()


def _decided(planner: Planner, one: Recorded, line: bytes) -> Planned:
    """What becomes of an entry. What the disk has under the same description counts only with the same content.

    A file that only has another inode by now, as after a restore, is linked if all that is recorded of it is equal.
    """
    decided = planner.decide(split(line)[1])
    base, front = planner.alike
    if base >= 0:
        its, recorded_there = split(line)[0].split(b" "), front.split(b" ")
        if its[::2] == recorded_there[::2] and NOTHING not in its[::2]:
            return Planned(Step.LINK, base, split(line)[0], decided.line)
    if decided.step is Step.FOLDER or not decided.front or decided.front.split(b" ", 1)[0] == line.split(b" ", 1)[0]:
        return decided
    if decided.step is Step.LINK_GROUP:
        planner.copied_inodes.add(one.entry.inode)
        return Planned(Step.COPY_GROUP, -1, b"", decided.line)
    return Planned(Step.COPY, -1, b"", decided.line)


def _link(replica: Replica, linker: Linker, planned: Planned, one: Recorded) -> None:
    if not replica.updating:
        linker.add(planned.base, one.entry.path)
    if one.entry.kind == b"f":
        replica.linked += 1
        replica.linked_bytes += one.entry.size


class Fetcher:
    """Collects entries in merge order and has them fetched, a chunk at a time.

    Where the file `notes` is given, a chunk that is on the medium is noted there, for a run after an interrupted one.
    """

    def __init__(self, replica: Replica, folder: int, notes: str) -> None:
        """`folder` is the open tree on the disk; `notes` is "" for what has to come in one chunk."""
        self._replica = replica
        self._folder = folder
        self._notes = notes
        self._entries: list[Recorded] = []
        self._bytes = 0
        self._pace = Checkpoints(is_steady=False)
        self._is_noted = False

    def add(self, one: Recorded) -> None:
        """Fetch this entry, soon."""
        self._entries.append(one)
        self._bytes += one.entry.size if one.entry.kind == b"f" else 0
        if self._notes and self._pace.is_due(len(self._entries), self._bytes):
            self._pace.kept(len(self._entries), self._bytes)
            self.finish()

    def finish(self) -> None:
        """Fetch what was collected, and hold it against the manifest."""
        if not self._entries:
            return
        replica, entries, check = self._replica, self._entries, RestoreCheck(self._replica.copy.can, self._step)
        self._entries, self._bytes = [], 0
        if replica.updating:
            self._clear(entries)
        damaged = self.fetch(entries, check)
        for path in () if replica.copy.shell else (one.entry.path for one in entries if one.entry.kind == b"f"):
            drop_cached(b"%b/%b" % (os.fsencode(replica.copy.data), path))
        self._write_kept(entries)
        for content in (False, True):
            if not content or check.is_content_in_doubt:
                check.all(self._folder, paired(entries, self._present(entries)), self._step, content=content)
        wrong = {one.entry_path: one.reason for one in (*check.problems, *damaged)}
        self._settle(entries, wrong)
        replica.damaged += (Problem.at(path, why) for path, why in wrong.items())
        sound = [one for one in entries if one.entry.path not in wrong]
        files = [one.entry for one in sound if one.entry.kind == b"f"]
        replica.files += len(files)
        replica.size += sum(entry.size for entry in files)
        replica.step()
        if self._notes:
            self._note(sound)

    def fetch(self, entries: Iterable[Recorded], check: RestoreCheck) -> list[Problem]:
        """Let rsync bring these entries, but for the damaged ones that it returns; the check says what is there."""
        replica, largest_file, from_peer = self._replica, 0, 0
        copy, file = replica.copy, os.path.join(replica.scratch, "listing")
        with ExitStack() as stack:
            data = None if copy.shell else stack.enter_context(tree.open_folder(copy.data))
            listing = TransferList(file, b"", copy.can, data)
            try:
                for one in entries:
                    listing.add(one)
                    from_peer += AROUND_ENTRY
                    if one.entry.kind == b"f":
                        largest_file, from_peer = max(largest_file, expected_size(one)), from_peer + largest(one)
            finally:
                listing.close()
        for path, listed in [(b"", file), *((one.entry.path + b"/.", deep) for one, deep in listing.deep)]:
            if os.path.getsize(listed):
                self._run(path, lambda source, target, holds, listed=listed: rsync.restoring(  # type: ignore[misc]
                    source, target, holds, over=False, listing=listed, shell=copy.shell, rate=replica.rate
                ), check, from_peer if copy.shell else listing.bytes, largest_file)  # fmt: skip
        if os.path.getsize(listing.holed):
            self._fetch_holed(listing.holed, check)
        return listing.damaged

    def _fetch_holed(self, listed: str, check: RestoreCheck) -> None:
        """Copy large files of holes, and let rsync give them and their folders what else they have.

        What is too deep for it gets that by the manifest.
        """
        replica = self._replica
        listing = os.path.join(replica.scratch, "with-holes")
        with tree.open_folder(replica.copy.data) as data:
            replica.problems += copy_sparse_files.copy_listed(
                listed, data, self._folder, check.add, self._step, Pace(replica.rate),
                has_links=replica.copy.can.hard_links,
            )  # fmt: skip
        with open(listed, "rb") as holed, open(listing, "wb") as file:
            for path in copy_sparse_files.listed_paths(holed):
                if path.count(b"/") < DEEPEST:
                    file.write(rsync.listing(filter(None, (path.rpartition(b"/")[0], path))))
        if os.path.getsize(listing):
            self._run(b"", lambda source, target, holds: rsync.restoring(
                source, target, holds, over=None, listing=listing
            ), check)  # fmt: skip

    def fetch_root(self) -> None:
        """Let rsync give the volume's top its metadata."""
        shell = self._replica.copy.shell
        check = RestoreCheck(self._replica.copy.can, self._step)
        self._run(
            b"", lambda source, target, holds: rsync.restoring_folder(source, target, holds, shell=shell), check, 0
        )

    def _run(
        self, path: bytes, command: Callable[[str, str, rsync.Holds], proc.Command], check: RestoreCheck,
        most: int | None = None, largest_file: int = 0,
    ) -> None:  # fmt: skip
        replica = self._replica
        base = path[:-1]  # b"", or that of a deep folder, which comes as "folder/."

        def heard(item: rsync.Item) -> None:
            check.add(item, base)

        with ends(replica.copy, self._folder, path) as (source, target):
            output = os.path.join(replica.scratch, "output")
            is_peers = bool(replica.copy.shell)
            with peer_errors_checked(self._folder, largest_file, is_peers=is_peers):
                asked = command(source, target, replica.copy.holds)
                notes = follow(asked, output, heard, self._step, most, is_peers=is_peers)
        for note in notes:
            if rsync.is_of_metadata(note) and not replica.copy.shell:
                self._is_noted = True  # what it leaves undone is seen of the entries themselves
            else:
                replica.problems.append(Problem("", note))
                replica.is_unsure = True

    def _settle(self, entries: Iterable[Recorded], wrong: dict[bytes, str]) -> None:
        """Give entries what the manifest says of them, where the source's medium shows something else by now.

        What this disk cannot hold is not damage of the source; it is taken out of `wrong`.
        """
        replica, hashes = self._replica, ContentHashes(lambda _: self._step())
        with ExitStack() as stack:
            here, source = stack.enter_context(closing(ParentOpener(self._folder))), self.source(stack)
            for one in entries:
                path, why = one.entry.path, wrong.get(one.entry.path)
                with suppress(OSError):
                    above, name = here.parent(path)
                    there = tree.entry_at(above, name, path)
                    if why and why == odd_time(one, there):
                        del wrong[path]
                        if one.hash and hashes.of(above, name, names=there.nlink, most=there.size + 1) != one.hash:
                            wrong[path] = "has another content than was backed up"
                    elif why:
                        continue
                    at = tree.path_of(above, name)
                    is_there = source is not None and not is_aside(one)
                    medium = tree.path_of(*source.parent(path)) if source is not None and is_there else None
                    if gone := replica.write_metadata(at, one, there, is_noted=self._is_noted, source=medium):
                        wrong[path] = gone

    def source(self, stack: ExitStack) -> ParentOpener | None:
        """The tree that is fetched, if it can be looked at."""
        if self._replica.copy.shell:
            return None
        return stack.enter_context(
            closing(ParentOpener(stack.enter_context(tree.open_folder(self._replica.copy.data))))
        )

    def _clear(self, entries: Iterable[Recorded]) -> None:
        """What is in a clone under these names must not be taken for what rsync then fails to bring."""
        with closing(ParentOpener(self._folder)) as opener:
            for one in entries:
                with suppress(OSError):
                    above, name = opener.parent(one.entry.path)
                    os.unlink(name, dir_fd=above)

    def _write_kept(self, entries: list[Recorded]) -> None:
        """What the source's medium could not hold, and its manifest kept."""
        copy = self._replica.copy
        wanted = entries
        if not is_needed(copy.can) and not has_split_links(self._folder, entries):
            wanted = [one for one in entries if lacks_of(one.attributes)]
        if wanted:
            write_kept(self._replica, self._folder, lambda: iter(wanted))

    def _present(self, entries: Iterable[Recorded]) -> Iterator[manifest.Entry]:
        with closing(ParentOpener(self._folder)) as opener:
            for one in entries:
                with suppress(OSError):
                    above, name = opener.parent(one.entry.path)
                    yield tree.entry_at(above, name, one.entry.path)

    def _note(self, sound: Iterable[Recorded]) -> None:
        """Content first: what the lines say must be true even after a power cut."""
        replica = self._replica
        proc.run(proc.Command(argv=("sync", "--file-system", replica.data), timeout=proc.FOREVER))
        lines = b"".join(_front(replica, one) + b" " + manifest.spool_line(*astuple(one.entry)) for one in sound)
        with open(self._notes, "ab") as file:
            file.write(replica.sign(lines))

    def _step(self) -> None:
        self._replica.step()


def _note_all(replica: Replica, planner: Planner) -> None:
    """Note for the next run all that is sound, so that nothing else that was left is needed any more."""
    proc.run(proc.Command(argv=("sync", "--file-system", replica.data), timeout=proc.FOREVER))
    wrong, chunk = {one.entry_path for one in replica.damaged}, list[bytes]()
    with open(os.path.join(replica.fresh, COPIED), "wb") as file:
        for planned, one in replica.planned(planner):
            is_afresh = planned.base < 0 or planned.base >= replica.published
            if planned.step is Step.FOLDER or not is_afresh or one.entry.path in wrong:
                continue
            chunk.append((planned.front or _front(replica, one)) + b" " + planned.line)
            if len(chunk) >= _CHUNK:
                file.write(replica.sign(b"".join(chunk)))
                chunk.clear()
        file.write(replica.sign(b"".join(chunk)))


def write_kept(replica: Replica, folder: int, read: Callable[[], Iterator[Recorded]]) -> None:
    """Give entries what the source's manifest kept for them; what cannot be given here, this manifest keeps."""
    writing = TreeMetadataWriter(folder, replica.writer, replica.copy.beside, over=True)
    writing.write_all(read, replica.step)
    for problem in writing.problems:
        replica.lost(problem.entry_path, (problem.reason,))


def _write_folders(replica: Replica, planner: Planner, folder: int) -> None:
    """Folders come last, because what is done in them changes their times.

    One that is as it was gets its metadata from the disk's own older copy, the others from the source.
    """
    gone = _gone_from_bases(replica, planner)

    def changed() -> Iterator[Recorded]:
        return (
            one for planned, one in replica.planned(planner)
            if planned.step is Step.FOLDER and (planned.base < 0 or one.entry.path in gone)
        )  # fmt: skip

    fetcher, before = Fetcher(replica, folder, ""), len(replica.problems)
    fetcher.fetch((one for one in changed()), RestoreCheck(replica.copy.can, replica.step))
    replica.damaged += replica.problems[before:]  # a folder that is gone; nothing else would say so of an empty one
    if any(one.entry.path == ROOT for one in changed()):
        fetcher.fetch_root()
    if is_needed(replica.copy.can):
        write_kept(replica, folder, changed)
    else:
        write_kept(replica, folder, lambda: (one for one in changed() if lacks_of(one.attributes)))
    _settle_folders(replica, fetcher, folder, changed())
    _write_as_before(replica, planner, folder, gone)


def _settle_folders(replica: Replica, fetcher: Fetcher, folder: int, changed: Iterable[Recorded]) -> None:
    """Folders that were fetched are what the manifest says, whatever the source's medium shows by now."""
    with ExitStack() as stack:
        here, source = stack.enter_context(closing(ParentOpener(folder))), fetcher.source(stack)
        for one in changed:
            path = one.entry.path
            at = tree.path_of(folder) if path == ROOT else tree.path_of(*here.parent(path))
            is_there = source is not None and path != ROOT and not is_aside(one)
            if source is not None and is_there and not _is_folder(source, path):
                replica.damaged.append(Problem.at(path, "is not there"))
                continue
            medium = tree.path_of(*source.parent(path)) if source is not None and is_there else None
            there = tree.entry_at(folder, b".", path) if path == ROOT else tree.entry_at(*here.parent(path), path)
            if gone := replica.write_metadata(at, one, there, is_noted=True, source=medium):
                replica.damaged.append(Problem.at(path, gone))


def _is_folder(opener: ParentOpener, path: bytes) -> bool:
    try:
        return tree.entry_at(*opener.parent(path), path).kind == b"d"
    except OSError:
        return False


def _write_as_before(replica: Replica, planner: Planner, folder: int, gone: set[bytes]) -> None:
    """Folders that are as they were get their metadata from the disk's own older copy."""
    with ExitStack() as stack:
        here = stack.enter_context(closing(ParentOpener(folder)))
        roots = [stack.enter_context(tree.open_folder(base.data)) for base in replica.bases]
        older = [stack.enter_context(closing(ParentOpener(root))) for root in roots]
        for planned, one in replica.planned(planner):
            if planned.step is not Step.FOLDER or planned.base < 0 or one.entry.path in gone:
                continue
            if one.entry.path == ROOT:
                was, now = tree.path_of(roots[planned.base]), tree.path_of(folder)
            else:
                was = tree.path_of(*older[planned.base].parent(one.entry.path))
                now = tree.path_of(*here.parent(one.entry.path))
            extended = {os.fsdecode(name): value for name, value in attributes(was).items()}
            for name in own(attributes(now)).keys() - extended.keys():
                with suppress(OSError):  # inherited from a default ACL
                    os.removexattr(now, name, follow_symlinks=False)
            if lost := write_metadata(now, one.entry, extended):
                replica.lost(one.entry.path, lost)


def _gone_from_bases(replica: Replica, planner: Planner) -> set[bytes]:
    """The folders that a base's manifest has and its tree has not: those come from the source."""
    gone: set[bytes] = set()
    with ExitStack() as stack:
        roots = [stack.enter_context(tree.open_folder(base.data)) for base in replica.bases]
        older = [stack.enter_context(closing(ParentOpener(root))) for root in roots]
        for planned, one in replica.planned(planner):
            is_linked = planned.step is Step.FOLDER and planned.base >= 0 and one.entry.path != ROOT
            if is_linked and not _is_folder(older[planned.base], one.entry.path):
                gone.add(one.entry.path)
    return gone


def _front(replica: Replica, one: Recorded) -> bytes:
    """The entry's `hash flag attributes` on this disk, which holds everything but what it turned out not to hold."""
    then, flag = attributes_then(one, replica.copy.can), one.flag.lower()
    word = _word(one, then)
    if lacking := replica.short.get(one.entry.path):
        given = then.values if then else {}
        word = encode_attributes(replica.kept.get(one.entry.path, {}) | given, lacking)
        if len(word) > LARGEST_ATTRIBUTES:
            replica.problems.append(Problem.at(one.entry.path, "its attributes are too large to be kept for it"))
            word = encode_attributes({}, lacking)
    if replica.is_unsure and flag != CHANGED:
        flag = RACY  # nothing is linked from what may lack something
    return b" ".join((one.hash.encode() or NOTHING, flag, word))


def _word(one: Recorded, then: KnownAttributes | None) -> bytes:
    """The attributes of an entry that has them all here."""
    if then is None:
        return NOTHING
    return one.attributes if then.digests else noted(own(then.values))


def _write_manifest(replica: Replica, planner: Planner) -> Filled:
    writer = manifest.Writer(os.path.join(replica.fresh, MANIFEST))
    entries = 0
    for planned, one in replica.planned(planner):
        front = planned.front if one.entry.path not in replica.short else b""
        if front and is_unknown(front) and (then := attributes_then(one, replica.copy.can)) is not None:
            front = front.rsplit(b" ", 1)[0] + b" " + _word(one, then)
        front = front or _front(replica, one)
        writer.add(front, planned.line)
        if is_short(front + b" " + planned.line):
            replica.problems.append(short(one.entry.path, lacks_of(recorded(front + b" " + planned.line).attributes)))
        entries += 1
    writer.close()
    return Filled(writer.sha256, entries)
