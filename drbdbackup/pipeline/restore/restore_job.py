"""The caged job that brings a copy back, or looks what that would do.

It writes below one checked folder only, never to a medium; it deletes only in place, and it holds what it has restored
against the manifest before it says that it is done.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import manifest, proc
from drbdbackup.errors import DestinationFull, NotInSnapshot, TargetFull, TargetReadOnly, UsageError
from drbdbackup.manifest import ROOT, Entry, Recorded, lacks_of
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, open_copy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import ODD_TIME, folders_above, is_aside, lines_below, paired, recorded_below
from drbdbackup.pipeline.files.metadata import SET_ID, UNHELD_TIME
from drbdbackup.pipeline.files.rsync_run import follow
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
    put_right,
    runs_as_owner,
)
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.delete_surplus import Surplus
from drbdbackup.pipeline.restore.plain_files import PlainFiles, is_plain, knows_all
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


class Bringing(Struct, kw_only=True):
    """A restore under way: what is wanted of which copy, and what came of it. `folder` is the open destination.

    `inside` are the first names in what is wanted; `has_short`: of some of it the medium cannot hold everything;
    `has_links`: a file in it has several names. The `damaged` files are not read, the others have `most` bytes (None:
    nobody knows). `lines` are those of the manifest that tell of what is wanted, if that is little. `has_privileged`:
    some of it runs as its owner or has capabilities, and gets that last; what is in place and has its `set_id` mode
    loses that meanwhile. `is_plain_right`: every plain file has all that it should, and nothing else;
    `knows_root`: the manifest alone tells what the root has.
    """

    job: RestoreJob
    channel: Channel
    copy: OpenCopy
    top: bytes
    folder: int = -1
    entries: int = 0
    files: int = 0
    size: int = 0
    done: int = 0
    changed: int = 0
    copied: int = 0
    modified_ns: int = 0
    has_short: bool = False
    has_links: bool = False
    has_privileged: bool = False
    set_id: set[bytes] = field(default_factory=set)
    deep: list[tuple[Recorded, str]] = field(default_factory=list)
    holed: str = ""
    inside: list[bytes] = field(default_factory=list)
    mountpoints: frozenset[bytes] = frozenset()
    above: list[Recorded] = field(default_factory=list)
    lines: list[bytes] | None = None
    is_plain_right: bool = False
    knows_root: bool = False
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    damaged: list[tuple[bytes, str]] = field(default_factory=list)
    most: int | None = None

    @contextmanager
    def recorded(self) -> Iterator[Iterator[Recorded]]:
        """The manifest's entries that are wanted."""
        with self.told() as lines:
            yield recorded_below(lines, self.top)

    @contextmanager
    def told(self) -> Iterator[Iterator[bytes]]:
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

    def read_short(self) -> Iterator[Recorded]:
        """Of these, those of which the medium cannot hold everything."""
        return (one for one in self.read() if lacks_of(one.attributes))

    @property
    def giver(self) -> Giver:
        """What gives entries what is their own. To whose medium others can write: as long as nobody knows contents."""
        own = self.copy.is_own
        return Giver(self.copy.can, own, tells=bool(self.copy.shell), privileges=own)

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
        return self.is_plain_right and is_plain(one) and not is_other(one.entry, there)

    def step(self) -> None:
        """One more entry is done."""
        self.done += 1
        if not self.done & 0xFF:
            self.tell()

    def present(
        self, on_problem: Callable[[bytes, str], None], excluded: Excluded | None = None, *, all_there: bool = False
    ) -> Iterator[Entry]:
        """What is there now, at and below what is wanted, or `all_there` is."""
        top = b"" if all_there else self.top
        return tree.entries(self.folder, top, lambda one: on_problem(one.path, one.why), excluded, self.mountpoints)

    def surplus(self, *, in_the_way: bool = False) -> Iterator[Entry]:
        """What the volume holds and the snapshot does not; what cannot be looked at is not judged."""
        there = self.present(lambda *_: None, delete_surplus.spared(self.copy.sidecar, self.job.exclude))
        return delete_surplus.surplus(self.read(), there, self.copy.sidecar, self.mountpoints, in_the_way=in_the_way)


def do(job: LookJob | BringJob, channel: Channel) -> RestoreLook | Brought:
    """What a restore would bring and delete, or the restore itself."""
    os.umask(0o077)
    raise_open_files()
    with open_copy(job, channel) as copy:
        mounted = destination.mountpoints(job.destination)
        others = mounted | delete_surplus.left_out(copy.sidecar)
        bringing = Bringing(job=job, channel=channel, copy=copy, top=os.fsencode(job.path), mountpoints=others)
        bringing.keep_lines()
        _find_above(bringing)
        if isinstance(job, LookJob):
            _survey(bringing, mounted)
            return _look(bringing)
        if not bringing.has_plain:
            _list(bringing, mounted)
        return _bring(bringing)


def _list(bringing: Bringing, mounted: frozenset[bytes] = frozenset(), check: RestoreCheck | None = None) -> None:
    """Write the list of what rsync is to bring; with a `check`, restore meanwhile what needs no rsync.

    Raises as `_survey` does, and TargetFull.
    """
    copy, data, plain = bringing.copy, None, None
    with ExitStack() as stack:
        if not copy.shell:
            data = stack.enter_context(tree.open_folder(copy.data))
        listing = TransferList(bringing.listing, bringing.top, copy.can, data, is_own=copy.is_own)
        stack.enter_context(closing(listing))
        if check is None or data is None:
            _survey(bringing, mounted, listing.add)
        else:
            plain = PlainFiles(data, bringing.folder, listing, check.restored, bringing.came)
            stack.enter_context(closing(plain))
            _survey(bringing, mounted, plain.add)
            plain.finish()
            bringing.problems += plain.problems
            bringing.done = bringing.changed = plain.count
            bringing.is_plain_right, bringing.knows_root = not plain.has_left, plain.knows_root
    bringing.deep, bringing.holed = listing.deep, listing.holed
    bringing.problems += listing.problems
    bringing.damaged = listing.damaged
    bringing.most = None if copy.shell else listing.bytes


def _find_above(bringing: Bringing) -> None:
    """Look for what is wanted, and for the folders above it. Raises NotInSnapshot."""
    parents, there = folders_above(bringing.top), b""
    with bringing.told() as lines:
        for one in recorded_below(lines, bringing.top, parents):
            if one.entry.path not in parents:
                return
            bringing.above.append(one)
            there = one.entry.path
    hint = f"It has {os.fsdecode(there)!r}, and not that in it." if there else "Paths begin at the volume's top."
    name = bringing.copy.sidecar.snapshot
    raise NotInSnapshot(f"{os.fsdecode(bringing.top)!r} is not in the snapshot {name}", hint)


def _survey(
    bringing: Bringing, mounted: frozenset[bytes], add: Callable[[Recorded], None] = lambda _: None
) -> None:
    """Count what is wanted, a file with several names once; `add` gets each entry.

    Raises UsageError for what would go to another file system: `mounted` are those in the volume.
    """
    inodes: set[int] = set()
    with bringing.recorded() as wanted:
        for one in wanted:
            entry = one.entry
            if entry.path == bringing.top:
                bringing.modified_ns = entry.mtime
            elif bringing.top and len(bringing.inside) < _NAMED:
                above, _, inside = entry.path.rpartition(b"/")
                bringing.inside += [inside] * (above == bringing.top)
            bringing.entries += 1
            bringing.has_short = bringing.has_short or bool(lacks_of(one.attributes))
            bringing.has_privileged = bringing.has_privileged or gives_rights(one)
            bringing.step()
            add(one)
            if mounted:
                _refuse_other(entry.path, mounted)
            if entry.kind == b"f":
                bringing.files += 1
                bringing.size += 0 if entry.inode in inodes else entry.size
            if entry.nlink > 1 and entry.kind == b"f":
                inodes.add(entry.inode)
    bringing.done, bringing.has_links = 0, bool(inodes)


def _refuse_other(path: bytes, mounted: frozenset[bytes]) -> None:
    """It was the volume's when the snapshot was made. Now it is neither shown, nor kept first, nor compared."""
    folder = path.rpartition(b"/")[0]
    if delete_surplus.is_in(folder, mounted):
        told = f"another file system is mounted at {os.fsdecode(folder)!r} or above, and the snapshot has files there"
        raise UsageError(told, "Unmount it and restore again, or restore the rest with --path. Nothing was replaced.")


def _look(bringing: Bringing) -> RestoreLook:
    job, counted = bringing.job, Surplus()
    destination.check(job.destination)
    if job.in_place:
        with destination.opened(job.destination, caged=job.here.caged) as folder:
            bringing.folder = folder
            tree.check_way(folder, bringing.top)
            for entry in bringing.surplus():
                bringing.step()
                counted.count(entry)
    told, free = bringing.copy.sidecar, destination.free(job.destination)
    return RestoreLook(
        entries=bringing.entries, files=bringing.files, bytes=bringing.size, free=free, needs=_needs(bringing, free),
        deleted=counted.entries, deleted_bytes=counted.size, shown=tuple(map(os.fsdecode, counted.shown)),
        unread=told.unread_count, may_delete=delete_surplus.may_delete(told), modified_ns=bringing.modified_ns,
        failed_above=tuple(why for path, why in told.unread if f"{job.path}/".startswith(f"{path}/")),
        inside=tuple(map(os.fsdecode, bringing.inside)),
    )  # fmt: skip


def _needs(bringing: Bringing, free: int | None) -> int:
    """Bytes that the restore will take; where they seem too many, holes in files are looked for and left out."""
    if free is None or bringing.size <= free or bringing.copy.shell or bringing.job.in_place:
        return bringing.size
    with tree.open_folder(bringing.copy.data) as data:
        return tree.allocated(data, bringing.top, bringing.step)


def _bring(bringing: Bringing) -> Brought:
    job, counted, check = bringing.job, Surplus(), RestoreCheck(bringing.copy.can, bringing.tell)
    over = job.over
    with destination.opened(job.destination, caged=job.here.caged) as folder:
        bringing.folder = folder
        if job.in_place:
            tree.check_way(folder, bringing.top)
            bringing.channel.send(ReadyToReplace())
            bringing.channel.receive(Replace)
            _note_set_id(bringing)
        made = frozenset(tree.making(folder, bringing.top)) if bringing.top else frozenset()
        begun = time.time_ns() - _TICK_NS
        if bringing.has_plain:
            with _noting_full():
                _list(bringing, check=check)
        _transfer_all(bringing, over, check, counted)
        is_for_all = is_needed(bringing.copy.can) or (bringing.has_links and has_split_links(folder, bringing.read()))
        if is_for_all or bringing.has_short:
            giving = MetadataWriter(folder, bringing.giver, bringing.copy.beside, over)
            giving.give_all(bringing.read if is_for_all else bringing.read_short, bringing.step)
            bringing.problems += giving.problems + giving.of_medium
        if job.in_place:
            bringing.problems += delete_surplus.delete(folder, bringing.surplus(), counted, bringing.step)
        _give_again(bringing, [one for one, _ in reversed(bringing.deep)])
        _give_above(bringing, made)
        bringing.done = 0
        only = None if over else bringing.top
        since = begun if bringing.copy.shell and over and not job.in_place else None
        not_read: list[tuple[bytes, str]] = []
        with bringing.recorded() as wanted:
            present = bringing.present(lambda path, why: not_read.append((path, why)), all_there=not over)
            pairs = put_right(folder, paired(wanted, present), bringing.giver, bringing.problems, bringing.is_right)
            check.all(folder, pairs, bringing.step, content=over, only=only, since=since)
        bringing.problems += not_read
        if check.is_content_in_doubt:
            with bringing.recorded() as wanted:
                pairs = paired(wanted, bringing.present(lambda *_: None))
                check.all(folder, pairs, bringing.step, content=True)
        if bringing.has_privileged and not bringing.copy.is_own:
            _give_rights(bringing, {path for path, _ in (*check.problems, *bringing.damaged)})
    named = {path for path, why in bringing.problems if UNHELD_TIME in why}
    damaged = {path for path, _ in bringing.damaged}
    compared = [
        (path, why) for path, why in check.problems if path not in (named if why == ODD_TIME else damaged)
    ]  # fmt: skip
    problems = list(dict.fromkeys([*bringing.problems, *bringing.damaged, *compared]))
    return Brought(
        entries=bringing.entries, files=bringing.files, bytes=bringing.copied, deleted=counted.entries,
        changed=bringing.changed,
        problems=tuple((os.fsdecode(path), _with_advice(why)) for path, why in problems[:KEPT_PROBLEMS]),
        problem_count=len(problems),
    )  # fmt: skip


def _give_rights(bringing: Bringing, wrong: set[bytes]) -> None:
    """Contents are known now: files that give rights to who starts them get those, but for the `wrong` ones."""
    def spares(one: Recorded, _: Entry) -> bool:
        return not gives_rights(one) or one.entry.path in wrong

    giver = replace(bringing.giver, privileges=True)
    with bringing.recorded() as wanted:
        pairs = paired(wanted, bringing.present(lambda *_: None))
        for _ in put_right(bringing.folder, pairs, giver, bringing.problems, spares):
            bringing.step()


def _with_advice(why: str) -> str:
    """Root may do everything but change what `chattr` protects."""
    return f"{why} (is it immutable? See `lsattr`, and `chattr -ia`)" if "Operation not permitted" in why else why


def _note_set_id(bringing: Bringing) -> None:
    """Note what is in place and runs as its owner, as it should: that it lost this meanwhile is no change.

    What does not, and should, is one: rsync would not see it.
    """
    if bringing.copy.is_own or not bringing.has_privileged:
        return
    with bringing.recorded() as wanted:
        for one, there in paired(wanted, bringing.present(lambda *_: None)):
            bringing.step()
            if one is None or there is None or not runs_as_owner(one) or there.kind != one.entry.kind:
                continue
            if there.mode == one.entry.mode:
                bringing.set_id.add(one.entry.path)
            elif there.mode & ~SET_ID == one.entry.mode & ~SET_ID:
                bringing.changed += 1


def _transfer_all(bringing: Bringing, over: bool, check: RestoreCheck, counted: Surplus) -> None:
    """Clear the way, and bring what the medium holds. rsync's --force would clear it of what is not ours to delete.

    What the snapshot does not have goes last, when all is there; only where there is no room for both it goes before.
    """
    def delete(*, in_the_way: bool) -> bool:
        before, gone = counted.entries, bringing.surplus(in_the_way=in_the_way)
        bringing.problems += delete_surplus.delete(bringing.folder, gone, counted, bringing.step)
        return counted.entries > before

    if bringing.job.in_place:
        delete(in_the_way=True)
    try:
        _transfer(bringing, over, check)
    except TargetFull:
        if not bringing.job.in_place or not delete(in_the_way=False):
            raise
        _transfer(bringing, over, check)


def _transfer(bringing: Bringing, over: bool, check: RestoreCheck) -> None:
    """Let rsync bring what is on the list. Where a file can have but one name, each name comes as a file of its own."""
    job, holds = bringing.job, bringing.copy.holds
    if bringing.has_links and not job.in_place and not destination.takes_links(bringing.folder):
        holds = replace(holds, hard_links=False)

    base = bringing.top.rpartition(b"/")[0] + b"/" if b"/" in bringing.top else b""

    def heard(item: rsync.Item, above: bytes = base) -> None:
        bringing.done += 1
        bringing.changed += not (item.is_of_mode and above + item.path in bringing.set_id)
        bringing.copied += item.length if item.is_transferred else 0
        check.brought(item, above)

    with _noting_full():
        with ends(bringing.copy, bringing.folder, bringing.top) as (source, target):
            for command in _commands(bringing, source, target, holds, heard, over=over):
                notes = follow(command, os.path.join(job.copy.scratch, "output"), heard, bringing.tell, bringing.most)
                bringing.problems += [rsync.entry_of(note, target, base) for note in notes]
        for one, listing in bringing.deep:
            _transfer_deep(bringing, one.entry.path, listing, partial(heard, above=one.entry.path + b"/"), over=over)


@contextmanager
def _noting_full() -> Iterator[None]:
    """Raises DestinationFull, or TargetReadOnly, in words for a restore."""
    try:
        yield
    except TargetFull as error:
        told = "a quota is used up" if error.is_quota else "no space is left"
        raise DestinationFull(f"{told} where the restore goes", "What was restored so far stays.") from None
    except TargetReadOnly:
        raise TargetReadOnly("where the restore goes has become read-only", "Check its disk: see `dmesg`.") from None


def _transfer_deep(
    bringing: Bringing, path: bytes, listing: str, heard: Callable[[rsync.Item], None], *, over: bool
) -> None:
    """Let rsync bring what is in a folder that is too deep for it to reach from above."""
    if not os.path.getsize(listing):
        return
    output = os.path.join(bringing.job.copy.scratch, "output")
    try:
        with ends(bringing.copy, bringing.folder, path + b"/.") as (source, target):
            command = rsync.restoring(source, target, bringing.copy.holds, over=over, listing=listing)
            notes = follow(command, output, heard, bringing.tell, bringing.most)
        bringing.problems += [rsync.entry_of(note, target, path + b"/") for note in notes]
    except OSError as error:
        bringing.problems.append((path, error.strerror or "could not be restored"))


def _commands(
    bringing: Bringing, source: str, target: str, holds: rsync.Holds, heard: Callable[[rsync.Item, bytes], None], *,
    over: bool,
) -> Iterator[proc.Command]:  # fmt: skip
    """What brings the entries, and what gives the top what is its own. Files with holes are brought in between."""
    shell, rules = bringing.copy.shell, ""
    if shell and bringing.top:
        rules = os.path.join(bringing.job.copy.scratch, "rules")
        _written(rules, rsync.only_below(bringing.top.rpartition(b"/")[2]))
    if shell and (bringing.top or not bringing.copy.takes_list):
        yield rsync.restoring_tree(source, target, holds, over=over, rules=rules, shell=shell)
        return
    if os.path.getsize(bringing.listing):
        yield rsync.restoring(source, target, holds, over=over, listing=bringing.listing, shell=shell)
    if bringing.holed and os.path.getsize(bringing.holed):
        listing = os.path.join(bringing.job.copy.scratch, "with-holes")
        base = bringing.top.rpartition(b"/")[0] + b"/" if b"/" in bringing.top else b""
        with tree.open_folder(bringing.copy.data) as data:
            bringing.problems += copy_sparse_files.bring_listed(
                bringing.holed, base, data, bringing.folder, listing, lambda item: heard(item, b""), bringing.tell
            )
        yield rsync.restoring(source, target, holds, over=None, listing=listing)
    if not bringing.top and not bringing.knows_root:
        yield rsync.restoring_folder(source, target, holds, shell=shell)


def _give_above(bringing: Bringing, made: frozenset[bytes]) -> None:
    """Folders that had to be made on the way to the wanted path are as they were: by the medium, then by the manifest.

    The manifest has not all ACLs and attributes where the medium could hold them and an older version made it, or
    where they are long, and without an ACL the group would get the rights of its mask. Then both are needed.
    """
    wanted = [one for one in bringing.above if one.entry.path in made and one.entry.path != ROOT]
    held = itertools.takewhile(lambda one: not is_aside(one), wanted)
    chain = [one.entry.path for one in held]
    if chain and not all(map(knows_all, wanted)):
        try:
            _transfer_above(bringing, chain)
        except OSError as error:
            bringing.problems.append((chain[-1], error.strerror or "could not be given what is its own"))
    _give_again(bringing, wanted[::-1])


def _give_again(bringing: Bringing, folders: list[Recorded]) -> None:
    """What the manifest has of these folders, the deepest first: something came into them since they had it."""
    giving = MetadataWriter(bringing.folder, bringing.giver, bringing.copy.beside, over=True)
    for one in folders:
        giving.give_all(lambda one=one: iter((one,)), lambda: None)  # type: ignore[misc]
    bringing.problems += giving.problems + giving.of_medium


def _transfer_above(bringing: Bringing, chain: list[bytes]) -> None:
    """Let rsync give these folders, each in the one before it, what they have of their own, and nothing in them."""
    copy, holds, scratch = bringing.copy, bringing.copy.holds, bringing.job.copy.scratch
    first = chain[0]
    names = [path[len(first.rpartition(b"/")[0]) :].lstrip(b"/") for path in chain]
    if copy.shell:
        rules = _written(os.path.join(scratch, "rules"), rsync.only_folders(names))
    else:
        listing = _written(os.path.join(scratch, "listing"), rsync.listing(names))
    with ends(bringing.copy, bringing.folder, first, chain[-1]) as (source, target):
        command = (
            rsync.restoring_tree(source, target, holds, over=True, rules=rules, shell=copy.shell)
            if copy.shell
            else rsync.restoring(source, target, holds, over=True, listing=listing)
        )
        notes = follow(command, os.path.join(scratch, "output"), lambda _: None, bringing.tell)
    found = [rsync.entry_of(note, target, first[: first.rfind(b"/") + 1]) for note in notes]
    bringing.problems += [(path or first, why) for path, why in found]


def _written(file: str, content: bytes) -> str:
    with open(file, "wb") as to:
        to.write(content)
    return file
