"""The caged job that brings a copy back, or looks what that would do.

It writes below one checked folder only, never to a medium; it deletes only in place, and it holds what it has restored
against the manifest before it says that it is done.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import manifest, proc
from drbdbackup.errors import DestinationFull, NotInSnapshot, TargetFull, TargetReadOnly, ToolError, UsageError
from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, open_copy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import folders_above, is_aside, lines_below, paired, recorded_below, shape
from drbdbackup.pipeline.files.content import content_hash
from drbdbackup.pipeline.files.metadata import SET_ID
from drbdbackup.pipeline.files.rsync_run import follow, room_as_it_is
from drbdbackup.pipeline.files.tree import Excluded
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.restore import copy_sparse_files, delete_surplus
from drbdbackup.pipeline.restore.apply_metadata import (
    Giver,
    MetadataWriter,
    gives_rights,
    has_split_links,
    is_needed,
    is_other,
    runs_as_owner,
)
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.delete_surplus import Surplus
from drbdbackup.pipeline.restore.immutable_files import ImmutableFiles, is_protected_as_it_was
from drbdbackup.pipeline.restore.plain_files import PlainFiles, is_plain, knows_all
from drbdbackup.pipeline.restore.privileged_files import RightsGiver
from drbdbackup.pipeline.restore.proven_metadata import EntryGiver, apply_proven
from drbdbackup.pipeline.restore.restore_protocol import (
    BringJob,
    Brought,
    LookJob,
    ReadyToReplace,
    Replace,
    RestoreJob,
    RestoreLook,
)
from drbdbackup.pipeline.restore.transfer_list import TransferList, ends
from drbdbackup.pipeline.volume import destination
from drbdbackup.scan import raise_open_files
from drbdbackup.targets.sidecar import KEPT_PROBLEMS
from drbdbackup.tools import rsync

_NAMED = 100
_FEW = 1000  # lines that are kept in memory
_TICK_NS = 20_000_000  # by which a file that was just changed may seem older


class RestoreWork(Struct, kw_only=True):
    """A restore under way: what is wanted of which copy, and what came of it. `folder` is the open destination.

    `inside` are the first names in what is wanted; `has_links`: a file in it has several names. The `damaged` files are
    not read, the others have `most` bytes (None: nobody knows). `lines` are those of the manifest that tell of what is
    wanted, if that is little. `has_privileged`: some of it runs as its owner or has capabilities, and gets that last;
    what is in place and has its `set_id` mode loses that meanwhile. What is `protected` (by chattr) and as it was is
    left alone. `has_unknown`: an older version did not note what attributes some of it has. `is_plain_right`: every
    plain file has all that it should, and nothing else; `knows_root`: what the root folder has stands in the manifest
    only.
    """

    job: RestoreJob
    channel: Channel
    copy: OpenCopy
    top: bytes
    folder: int = -1
    entries: int = 0
    files: int = 0
    inodes: int = 0
    size: int = 0
    done: int = 0
    changed: int = 0
    copied: int = 0
    modified_ns: int = 0
    has_links: bool = False
    has_privileged: bool = False
    has_unknown: bool = False
    set_id: set[bytes] = field(default_factory=set)
    protected: set[bytes] = field(default_factory=set)
    deep: list[tuple[Recorded, str]] = field(default_factory=list)
    holed: str = ""
    inside: list[bytes] = field(default_factory=list)
    mountpoints: frozenset[bytes] = frozenset()
    above: list[Recorded] = field(default_factory=list)
    lines: list[bytes] | None = None
    is_plain_right: bool = False
    knows_root: bool = False
    problems: list[Problem] = field(default_factory=list)
    damaged: list[Problem] = field(default_factory=list)
    most: int | None = None

    @contextmanager
    def recorded(self) -> Iterator[Iterator[Recorded]]:
        """The manifest's entries that are wanted."""
        with self.wanted_lines() as lines:
            yield recorded_below(lines, self.top)

    @contextmanager
    def wanted_lines(self) -> Iterator[Iterator[bytes]]:
        """The lines of the manifest, as far as they tell of what is wanted; perhaps others, too."""
        if self.lines is not None:
            yield iter(self.lines)
            return
        with manifest.reading(self.copy.manifest) as lines:
            yield lines

    def keep_lines(self) -> None:
        """Look for what is wanted once, and not in each of the passes to come."""
        if self.top:
            with manifest.reading(self.copy.manifest) as lines:
                found = list(itertools.islice(lines_below(lines, self.top), _FEW + 1))
            self.lines = found if len(found) <= _FEW else None

    def read(self) -> Iterator[Recorded]:
        """The same, for a caller that reads to the end."""
        with self.recorded() as wanted:
            yield from wanted

    @property
    def holds(self) -> rsync.Holds:
        """What rsync gives. It gives it to what a name leads to, which somebody may have exchanged: no rights.

        Only what is noted nowhere but on a medium that cannot be looked at here comes at once.
        """
        return replace(self.copy.holds, closed=not (self.has_unknown and self.copy.shell))

    @property
    def giver(self) -> Giver:
        """What gives entries their metadata, but no file rights: another one may come in its place at any moment."""
        return Giver(
            self.copy.can, self.copy.is_own, tells=bool(self.copy.shell), privileges=False,
            bring_acls=not self.holds.closed,
        )  # fmt: skip

    @property
    def has_plain(self) -> bool:
        """Whether plain files need no rsync: nothing was there before, and the medium holds all that they have."""
        return not (self.job.over or self.copy.shell or is_needed(self.copy.can))

    @property
    def listing(self) -> str:
        """The file with the list of what rsync is to bring."""
        return os.path.join(self.job.copy.scratch, "listing")

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.send_progress(Progress(self.done, self.copied, self.copied))

    def came(self, length: int) -> None:
        """So many bytes were copied; below 0, taken back."""
        self.copied += length
        self.tell()

    def is_right(self, one: Recorded, there: Entry) -> bool:
        """Whether it is known to have all that the manifest says, and nothing else."""
        if one.entry.path in self.protected:
            return True
        return self.is_plain_right and is_plain(one) and not is_other(one.entry, there)

    def step(self) -> None:
        """One more entry is done."""
        self.done += 1
        if not self.done & 0xFF:
            self.tell()

    def present(
        self, on_problem: Callable[[Problem], None], excluded: Excluded | None = None, *, all_there: bool = False
    ) -> Iterator[Entry]:
        """What is there now, at and below what is wanted, or `all_there` is."""
        top = b"" if all_there else self.top
        return tree.entries(self.folder, top, on_problem, excluded, self.mountpoints)

    def surplus(
        self, *, in_the_way: bool = False, seen: Callable[[Recorded | None, Entry | None], None] = lambda *_: None
    ) -> Iterator[Entry]:  # fmt: skip
        """What the volume holds and the snapshot does not; what cannot be looked at is not judged."""
        there = self.present(lambda *_: None, delete_surplus.spared(self.copy.sidecar, self.job.exclude))
        sidecar, points = self.copy.sidecar, self.mountpoints
        return delete_surplus.surplus(self.read(), there, sidecar, points, in_the_way=in_the_way, seen=seen)


def do(job: LookJob | BringJob, channel: Channel) -> RestoreLook | Brought:
    """What a restore would bring and delete, or the restore itself."""
    os.umask(0o077)
    raise_open_files()
    with open_copy(job, channel) as copy:
        mounted = destination.mountpoints(job.destination)
        others = mounted | delete_surplus.left_out(copy.sidecar)
        work = RestoreWork(job=job, channel=channel, copy=copy, top=os.fsencode(job.path), mountpoints=others)
        work.keep_lines()
        _find_above(work)
        if isinstance(job, LookJob):
            _survey(work, mounted)
            return _look(work)
        if not work.has_plain:
            _list(work, mounted)
        return _bring(work)


def _list(work: RestoreWork, mounted: frozenset[bytes] = frozenset(), check: RestoreCheck | None = None) -> None:
    """Write the list of what rsync is to bring; with a `check`, restore meanwhile what needs no rsync.

    Raises as `_survey` does, and TargetFull.
    """
    copy, data, plain = work.copy, None, None
    with ExitStack() as stack:
        if not copy.shell:
            data = stack.enter_context(tree.open_folder(copy.data))
        listing = TransferList(work.listing, work.top, copy.can, data, is_own=copy.is_own)
        stack.enter_context(closing(listing))
        if check is None or data is None:
            _survey(work, mounted, listing.add)
        else:
            plain = PlainFiles(data, work.folder, listing, check.restored, work.came)
            stack.enter_context(closing(plain))
            _survey(work, mounted, plain.add)
            plain.finish()
            work.problems += plain.problems
            work.done = work.changed = plain.count
            work.is_plain_right, work.knows_root = not plain.has_left, plain.knows_root
    work.deep, work.holed = listing.deep, listing.holed
    work.problems += listing.problems
    work.damaged = listing.damaged
    work.most = None if copy.shell else listing.bytes


def _find_above(work: RestoreWork) -> None:
    """Look for what is wanted, and for the folders above it. Raises NotInSnapshot."""
    parents, there = folders_above(work.top), b""
    with work.wanted_lines() as lines:
        for one in recorded_below(lines, work.top, parents):
            if one.entry.path not in parents:
                return
            work.above.append(one)
            there = one.entry.path
    hint = f"It has {os.fsdecode(there)!r}, and not that in it." if there else "Paths begin at the volume's top."
    name = work.copy.sidecar.snapshot
    raise NotInSnapshot(f"{os.fsdecode(work.top)!r} is not in the snapshot {name}", hint)


def _survey(
    work: RestoreWork, mounted: frozenset[bytes], add: Callable[[Recorded], None] = lambda _: None
) -> None:
    """Count what is wanted, a file with several names once; `add` gets each entry.

    Raises UsageError for what would go to another file system: `mounted` are those in the volume.
    """
    inodes: set[int] = set()
    with work.recorded() as wanted:
        for one in wanted:
            entry = one.entry
            if entry.path == work.top:
                work.modified_ns = entry.mtime
            elif work.top and len(work.inside) < _NAMED:
                above, _, inside = entry.path.rpartition(b"/")
                work.inside += [inside] * (above == work.top)
            work.entries += 1
            work.inodes += 1
            work.has_privileged = work.has_privileged or gives_rights(one)
            work.has_unknown = work.has_unknown or not one.attributes
            work.step()
            add(one)
            if mounted:
                _refuse_other(entry.path, mounted)
            if entry.kind == b"f":
                work.files += 1
                work.size += 0 if entry.inode in inodes else entry.size
                work.inodes -= entry.inode in inodes
            if entry.nlink > 1 and entry.kind == b"f":
                inodes.add(entry.inode)
    work.done, work.has_links = 0, bool(inodes)


def _refuse_other(path: bytes, mounted: frozenset[bytes]) -> None:
    """It was the volume's when the snapshot was made. Now it is neither shown, nor kept first, nor compared."""
    folder = path.rpartition(b"/")[0]
    if delete_surplus.is_in(folder, mounted):
        text = f"another file system is mounted at {os.fsdecode(folder)!r} or above, and the snapshot has files there"
        raise UsageError(text, "Unmount it and restore again, or restore the rest with --path. Nothing was replaced.")


def _look(work: RestoreWork) -> RestoreLook:
    job, counted = work.job, Surplus()
    destination.check(job.destination)
    if job.in_place:
        with destination.opened(job.destination, caged=job.here.caged) as folder:
            work.folder = folder
            tree.check_way(folder, work.top)
            protected = ImmutableFiles(folder, work.copy.can)
            for entry in work.surplus(seen=protected.look):
                work.step()
                counted.count(entry)
            protected.refuse()
    elif (into := destination.to_merge_into(job.destination)) is not None:
        _refuse_protected(work, into)
    sidecar, free = work.copy.sidecar, destination.free(job.destination)
    return RestoreLook(
        entries=work.entries, files=work.files, bytes=work.size, free=free, needs=_needs(work, free),
        lacks_inodes=0 if job.in_place else destination.lacking_inodes(job.destination, work.inodes),
        deleted=counted.entries, deleted_bytes=counted.size, shown=tuple(map(os.fsdecode, counted.shown)),
        unread=sidecar.unread_count, may_delete=delete_surplus.may_delete(sidecar), modified_ns=work.modified_ns,
        failed_above=tuple(one.reason for one in sidecar.unread if f"{job.path}/".startswith(f"{one.path}/")),
        inside=tuple(map(os.fsdecode, work.inside)),
    )  # fmt: skip


def _refuse_protected(work: RestoreWork, folder: int) -> None:
    """Of what is to be merged into, what has to be replaced must not be immutable. Closes `folder`."""
    try:
        work.folder = folder
        protected = ImmutableFiles(folder, work.copy.can)
        for one, there in paired(work.read(), work.present(lambda _: None)):
            work.step()
            if one is not None:
                protected.look(one, there)
        protected.refuse()
    finally:
        os.close(folder)


def _needs(work: RestoreWork, free: int | None) -> int:
    """Bytes that the restore will take; where they seem too many, holes in files are looked for and left out."""
    if free is None or work.size <= free or work.copy.shell or work.job.in_place:
        return work.size
    with tree.open_folder(work.copy.data) as data:
        return tree.allocated(data, work.top, work.step)


def _bring(work: RestoreWork) -> Brought:
    job, counted, check = work.job, Surplus(), RestoreCheck(work.copy.can, work.tell)
    over = job.over
    with destination.opened(job.destination, caged=job.here.caged) as folder:
        work.folder = folder
        if job.in_place:
            tree.check_way(folder, work.top)
            work.channel.send(ReadyToReplace())
            work.channel.receive(Replace)
        if over:
            _note_rights(work)
        made = frozenset(tree.making(folder, work.top)) if work.top else frozenset()
        begun = time.time_ns() - _TICK_NS
        if work.has_plain:
            with _noting_full(folder):
                _list(work, check=check)
        _transfer_all(work, check, counted)
        is_for_all = is_needed(work.copy.can) or (work.has_links and has_split_links(folder, work.read()))
        if is_for_all:
            making = MetadataWriter(folder, work.giver, work.copy.beside, over=over, makes_only=True)
            making.give_all(work.read, work.step)
            work.problems += making.problems
        if job.in_place:  # before a folder is given to somebody: what is in it may be a secret of root's
            work.problems += delete_surplus.delete(folder, work.surplus(), counted, work.step)
        work.done = 0
        only = None if over else work.top
        since = begun if work.copy.shell and over and not job.in_place else None
        not_read: list[Problem] = []
        with work.recorded() as wanted:
            present = work.present(not_read.append, all_there=not over)
            with ExitStack() as stack:
                medium = None if work.copy.shell else stack.enter_context(tree.open_folder(work.copy.data))
                giving = _entry_giver(work, begun, medium)
                pairs = apply_proven(paired(wanted, present), giving, work.is_right)
                check.all(folder, pairs, work.step, content=over, only=only, since=since)
        work.problems += not_read
        _give_above(work, made, giving)
        if check.is_content_in_doubt:
            with work.recorded() as wanted:
                pairs = paired(wanted, work.present(lambda _: None))
                check.all(folder, pairs, work.step, content=True)
        if work.has_privileged:
            wrong = {one.entry_path for one in (*check.problems, *work.damaged)} | work.protected
            giving_rights = RightsGiver(folder, replace(work.giver, privileges=True), work.came, work.above)
            work.problems += giving_rights.give_all(work.read(), wrong, work.step)
    damaged = {one.path for one in work.damaged}
    compared = [one for one in check.problems if one.path not in damaged]
    problems = list(dict.fromkeys([*work.problems, *work.damaged, *compared]))
    return Brought(
        entries=work.entries, files=work.files, bytes=work.copied, deleted=counted.entries,
        changed=work.changed,
        problems=tuple(Problem(one.path, _with_advice(one.reason)) for one in problems[:KEPT_PROBLEMS]),
        problem_count=len(problems),
    )  # fmt: skip


def _with_advice(why: str) -> str:
    """Root may do everything but change what `chattr` protects."""
    if "Operation not permitted" not in why:
        return why
    if why.startswith("owner"):
        return f"{why} (does the file system there keep owners? If so, see `lsattr`, and `chattr -ia`)"
    return f"{why} (is it immutable? See `lsattr`, and `chattr -ia`)"


def _note_rights(work: RestoreWork) -> None:
    """Note what is in place and runs as its owner, as it should: that it lost this meanwhile is no change.

    What does not, and should, is one: rsync would not see it. What `chattr` protects loses nothing if it is as it was.
    """
    if not work.has_privileged:
        return
    with work.recorded() as wanted, closing(tree.ParentOpener(work.folder)) as opener:
        for one, there in paired(wanted, work.present(lambda _: None)):
            work.step()
            if one is None or there is None or not gives_rights(one) or there.kind != one.entry.kind:
                continue
            with suppress(OSError):
                if is_protected_as_it_was(*opener.parent(one.entry.path), one, there, work.copy.can):
                    work.protected.add(one.entry.path)
            if not (work.job.in_place and runs_as_owner(one)):
                continue
            if there.mode == one.entry.mode:
                work.set_id.add(one.entry.path)
            elif there.mode & ~SET_ID == one.entry.mode & ~SET_ID:
                work.changed += 1


def _transfer_all(work: RestoreWork, check: RestoreCheck, counted: Surplus) -> None:
    """Clear the way, and bring what the medium holds. rsync's --force would clear it of what is not ours to delete.

    What the snapshot does not have goes last, when all is there; only where there is no room for both it goes before.
    """
    def delete(*, in_the_way: bool) -> bool:
        before, gone = counted.entries, work.surplus(in_the_way=in_the_way)
        work.problems += delete_surplus.delete(work.folder, gone, counted, work.step)
        return counted.entries > before

    if work.job.in_place:
        delete(in_the_way=True)
    try:
        _transfer(work, check)
    except TargetFull:
        if not work.job.in_place or not delete(in_the_way=False):
            raise
        _transfer(work, check)


def _transfer(work: RestoreWork, check: RestoreCheck) -> None:
    """Let rsync bring what is on the list. Where a file can have but one name, each name comes as a file of its own."""
    job, holds = work.job, work.holds
    _leave_out(work)
    if work.has_unknown and work.copy.is_own:  # it is nowhere but there
        holds = replace(holds, privileges=True)
    if work.has_links and not job.in_place and not destination.takes_links(work.folder):
        holds = replace(holds, hard_links=False)

    base = work.top.rpartition(b"/")[0] + b"/" if b"/" in work.top else b""

    def heard(item: rsync.Item, above: bytes = base) -> None:
        work.done += 1
        work.changed += not (item.is_of_mode and (holds.closed or above + item.path in work.set_id))
        work.copied += item.length if item.is_transferred else 0
        check.brought(item, above)

    is_peers = bool(work.copy.shell)
    with _noting_full(work.folder), room_as_it_is(work.folder, work.size, is_peers=is_peers):
        with ends(work.copy, work.folder, work.top) as (source, target):
            for command in _commands(work, source, target, holds, heard):
                notes = follow(command, os.path.join(job.copy.scratch, "output"), heard, work.tell, work.most)
                work.problems += [rsync.problem_of(note, target, base) for note in notes]
        for one, listing in work.deep:
            _transfer_deep(work, one.entry.path, listing, partial(heard, above=one.entry.path + b"/"))


def _leave_out(work: RestoreWork) -> None:
    """Take from the list what is there already, with the content that was backed up: nothing has to bring that."""
    if not work.job.over or work.copy.shell:
        return
    base = work.top.rpartition(b"/")[0] + b"/" if b"/" in work.top else b""
    shorter, contents = f"{work.listing}-shorter", dict[int, str]()
    with ExitStack() as stack:
        listed = stack.enter_context(open(work.listing, "rb"))
        to = stack.enter_context(open(shorter, "wb"))
        here = stack.enter_context(closing(tree.ParentOpener(work.folder)))
        wanted = stack.enter_context(work.recorded())
        for name in rsync.read_listing(listed):
            one = next(one for one in wanted if one.entry.path == base + name)
            if not _is_there(here, one, work.tell, contents):
                to.write(rsync.listed(name))
    os.replace(shorter, work.listing)


def _is_there(
    here: tree.ParentOpener, one: Recorded, on_piece: Callable[[], None], contents: dict[int, str]
) -> bool:  # fmt: skip
    """Whether an entry has type and content; whatever else it should have is given later.

    `contents` are the hashes of what has several names, by inode: a user may have made 65,000 of them for one file.
    """
    try:
        above, name = here.parent(one.entry.path)
        there = tree.entry_at(above, name, one.entry.path)
        if shape(one, there) or one.entry.kind != b"f":
            return not shape(one, there)
        found = contents.get(there.inode) or content_hash(above, name, on_piece)
    except OSError:
        return False
    if there.nlink > 1:
        contents[there.inode] = found
    return found == one.hash


@contextmanager
def _noting_full(folder: int) -> Iterator[None]:
    """Raises DestinationFull, or TargetReadOnly, in words for a restore."""
    try:
        yield
    except TargetFull as error:
        reason = "a quota is used up" if error.is_quota else "no space is left"
        if not error.is_quota and destination.has_no_inodes(folder):
            reason = "no inodes are left"
        raise DestinationFull(f"{reason} where the restore goes", "What was restored so far stays.") from None
    except TargetReadOnly:
        raise TargetReadOnly("where the restore goes has become read-only", "Check its disk: see `dmesg`.") from None
    except ToolError as error:
        if why := rsync.refused_write(error.message):
            hint = "Check its disk: see `dmesg`. What was restored so far stays."
            raise ToolError(f"nothing more can be written where the restore goes: {why}", hint) from None
        raise


def _transfer_deep(
    work: RestoreWork, path: bytes, listing: str, heard: Callable[[rsync.Item], None]
) -> None:
    """Let rsync bring what is in a folder that is too deep for it to reach from above."""
    if not os.path.getsize(listing):
        return
    output = os.path.join(work.job.copy.scratch, "output")
    try:
        with ends(work.copy, work.folder, path + b"/.") as (source, target):
            command = rsync.restoring(source, target, work.holds, over=work.job.over, listing=listing)
            notes = follow(command, output, heard, work.tell, work.most)
        work.problems += [rsync.problem_of(note, target, path + b"/") for note in notes]
    except OSError as error:
        work.problems.append(Problem.at(path, error.strerror or "could not be restored"))


def _commands(
    work: RestoreWork, source: str, target: str, holds: rsync.Holds, heard: Callable[[rsync.Item, bytes], None]
) -> Iterator[proc.Command]:  # fmt: skip
    """What brings the entries, and what gives the top its metadata. Files with holes are brought in between."""
    shell, rules, over = work.copy.shell, "", work.job.over
    if shell and work.top:
        rules = os.path.join(work.job.copy.scratch, "rules")
        _written(rules, rsync.only_below(work.top.rpartition(b"/")[2]))
    if shell and (work.top or not work.copy.takes_list):
        yield rsync.restoring_tree(source, target, holds, over=over, rules=rules, shell=shell)
        return
    if os.path.getsize(work.listing):
        yield rsync.restoring(source, target, holds, over=over, listing=work.listing, shell=shell)
    if work.holed and os.path.getsize(work.holed):
        listing = os.path.join(work.job.copy.scratch, "with-holes")
        base = work.top.rpartition(b"/")[0] + b"/" if b"/" in work.top else b""
        with tree.open_folder(work.copy.data) as data:
            work.problems += copy_sparse_files.bring_listed(
                work.holed, base, data, work.folder, listing, lambda item: heard(item, b""), work.tell
            )
        if not holds.closed:
            yield rsync.restoring(source, target, holds, over=None, listing=listing)
    if not work.top and not work.knows_root and not holds.closed:
        yield rsync.restoring_folder(source, target, holds, shell=shell)


def _give_above(work: RestoreWork, made: frozenset[bytes], giving: EntryGiver) -> None:
    """Folders that had to be made on the way to the wanted path are as they were: by the medium, then by the manifest.

    The manifest has not all ACLs and attributes where the medium could hold them and an older version made it, or
    where they are long, and without an ACL the group would get the rights of its mask. Then both are needed.
    """
    wanted = [one for one in work.above if one.entry.path in made and one.entry.path != ROOT]
    held = itertools.takewhile(lambda one: not is_aside(one), wanted)
    chain = [one.entry.path for one in held]
    if chain and not work.holds.closed and not all(map(knows_all, wanted)):
        try:
            _transfer_above(work, chain)
        except OSError as error:
            work.problems.append(Problem.at(chain[-1], error.strerror or "its metadata could not be restored"))
    below, inode = work.top, giving.alone.get(work.top, 0)
    with closing(tree.ParentOpener(work.folder)) as opener:
        for one in wanted[::-1]:  # nothing else is in them: they were made for it
            inode = giving.give(opener, one, {below.rpartition(b"/")[2]: inode})
            below = one.entry.path


def _entry_giver(work: RestoreWork, begun: int, medium: int | None) -> EntryGiver:
    """What gives the entries their metadata. An entry that only lacked that, and was not touched before, is changed.

    `medium` is the copy's tree, if it is open here.
    """
    sidecar = work.copy.sidecar
    excluded = delete_surplus.spared(sidecar, work.job.exclude)
    spared = work.mountpoints | delete_surplus.not_read(sidecar)

    def may_hold(path: bytes, is_folder: bool) -> bool:  # noqa: FBT001 as all such tests of a path
        return path in spared or (excluded is not None and excluded(path, is_folder))

    def on_given(there: Entry) -> None:
        work.changed += there.ctime < begun and there.path not in work.set_id

    return EntryGiver(
        folder=work.folder, giver=work.giver, problems=work.problems, medium=medium, on_piece=work.tell,
        may_hold=may_hold if work.job.over else lambda _path, _is_folder: False, on_given=on_given, begun=begun,
        is_new=not work.job.over, is_merged=work.job.over and not work.job.in_place,
    )  # fmt: skip


def _transfer_above(work: RestoreWork, chain: list[bytes]) -> None:
    """Let rsync give these folders, each in the one before it, their metadata, and nothing that is in them."""
    copy, holds, scratch = work.copy, work.holds, work.job.copy.scratch
    first = chain[0]
    names = [path[len(first.rpartition(b"/")[0]) :].lstrip(b"/") for path in chain]
    if copy.shell:
        rules = _written(os.path.join(scratch, "rules"), rsync.only_folders(names))
    else:
        listing = _written(os.path.join(scratch, "listing"), rsync.listing(names))
    with ends(work.copy, work.folder, first, chain[-1]) as (source, target):
        command = (
            rsync.restoring_tree(source, target, holds, over=True, rules=rules, shell=copy.shell)
            if copy.shell
            else rsync.restoring(source, target, holds, over=True, listing=listing)
        )
        notes = follow(command, os.path.join(scratch, "output"), lambda _: None, work.tell)
    found = [rsync.problem_of(note, target, first[: first.rfind(b"/") + 1]) for note in notes]
    work.problems += [one if one.path else Problem.at(first, one.reason) for one in found]


def _written(file: str, content: bytes) -> str:
    with open(file, "wb") as to:
        to.write(content)
    return file
