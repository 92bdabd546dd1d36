"""The caged job that brings a copy back, or looks what that would do.

It writes below one checked folder only, never to a medium; it deletes only in place, and it holds what it has restored
against the manifest before it says that it is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from drbdbackup import manifest
from drbdbackup.errors import NotInSnapshot, TargetFull, UsageError
from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.pipeline import deleting, destination, trees
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.checking import Check
from drbdbackup.pipeline.compare import recorded_below
from drbdbackup.pipeline.deleting import Surplus
from drbdbackup.pipeline.fill import follow
from drbdbackup.pipeline.giving import Giving, has_split_links, is_needed
from drbdbackup.pipeline.lying import Lying, lying
from drbdbackup.pipeline.trees import Excluded
from drbdbackup.scan import raise_open_files
from drbdbackup.tools import rsync

KEPT_PROBLEMS = 1000
_NAMED = 100


@dataclass(slots=True)
class Bringing:
    """A restore under way: what is wanted of which copy, and what came of it. `folder` is the open destination.

    `inside` are the first names in what is wanted.
    """

    job: dict[str, Any]
    channel: Channel
    copy: Lying
    top: bytes
    folder: int = -1
    entries: int = 0
    files: int = 0
    size: int = 0
    done: int = 0
    copied: int = 0
    modified_ns: int = 0
    inside: list[bytes] = field(default_factory=list)
    mountpoints: frozenset[bytes] = frozenset()
    above: list[Recorded] = field(default_factory=list)
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    @contextmanager
    def recorded(self) -> Iterator[Iterator[Recorded]]:
        """The manifest's entries that are wanted."""
        with manifest.reading(self.copy.manifest) as lines:
            yield recorded_below(lines, self.top)

    def read(self) -> Iterator[Recorded]:
        """The same, for who reads to the end."""
        with self.recorded() as wanted:
            yield from wanted

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.progress(entries=self.done, done_bytes=self.copied, copied_bytes=self.copied)

    def step(self) -> None:
        """One more entry is done."""
        self.done += 1
        if not self.done & 0xFF:
            self.tell()

    def present(self, on_problem: Callable[[bytes, str], None], excluded: Excluded | None = None) -> Iterator[Entry]:
        """What is there now, at and below what is wanted."""
        return trees.entries(
            self.folder, self.top, lambda one: on_problem(one.path, one.why), excluded, self.mountpoints
        )

    def surplus(self, *, in_the_way: bool = False) -> Iterator[Entry]:
        """What the volume holds and the snapshot does not; what cannot be looked at is not judged."""
        there = self.present(lambda *_: None, deleting.spared(self.copy.told, tuple(self.job["exclude"])))
        return deleting.surplus(self.read(), there, self.copy.told, self.mountpoints, in_the_way=in_the_way)


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """`step` "look": what a restore would bring and delete; "bring": do it."""
    os.umask(0o077)
    raise_open_files()
    with lying(job, channel) as copy:
        mounted = destination.mountpoints(job)
        others = mounted | deleting.left_out(copy.told)
        bringing = Bringing(job, channel, copy, os.fsencode(job["path"]), mountpoints=others)
        _survey(bringing, mounted)
        return _look(bringing) if job["step"] == "look" else _bring(bringing)


def _survey(bringing: Bringing, mounted: frozenset[bytes]) -> None:
    """Count what is wanted, a file with several names once. Raises NotInSnapshot, and UsageError for what would go to
    another file system: `mounted` are those in the volume.
    """
    inodes: set[int] = set()
    parents = {bringing.top[:end] for end, byte in enumerate(bringing.top) if byte == ord("/")}
    with manifest.reading(bringing.copy.manifest) as lines:
        for one in recorded_below(lines, b""):
            entry = one.entry
            if entry.path in parents:
                bringing.above.append(one)
            if bringing.top and entry.path != bringing.top and not entry.path.startswith(bringing.top + b"/"):
                continue
            if entry.path == bringing.top:
                bringing.modified_ns = entry.mtime
            elif bringing.top and len(bringing.inside) < _NAMED:
                above, _, inside = entry.path.rpartition(b"/")
                bringing.inside += [inside] * (above == bringing.top)
            bringing.entries += 1
            bringing.step()
            if mounted:
                _refuse_other(entry.path, mounted)
            if entry.kind == b"f":
                bringing.files += 1
                bringing.size += 0 if entry.inode in inodes else entry.size
            if entry.nlink > 1 and entry.kind == b"f":
                inodes.add(entry.inode)
    bringing.done = 0
    if not bringing.entries:
        there = max((one.entry.path for one in bringing.above), key=len, default=b"")
        hint = f"It has {os.fsdecode(there)!r}, and not that in it." if there else "Paths begin at the volume's top."
        name = bringing.copy.told.snapshot
        raise NotInSnapshot(f"{os.fsdecode(bringing.top)!r} is not in the snapshot {name}", hint)


def _refuse_other(path: bytes, mounted: frozenset[bytes]) -> None:
    """It was the volume's when the snapshot was made. Now it is neither shown, nor kept first, nor compared."""
    folder = path.rpartition(b"/")[0]
    if deleting.is_in(folder, mounted):
        told = f"another file system is mounted at {os.fsdecode(folder)!r} or above, and the snapshot has files there"
        raise UsageError(told, "Unmount it and restore again, or restore the rest with --path. Nothing was replaced.")


def _look(bringing: Bringing) -> dict[str, Any]:
    job, counted = bringing.job, Surplus()
    destination.check(job)
    if job["in_place"]:
        with destination.opened(job) as folder:
            bringing.folder = folder
            for entry in bringing.surplus():
                bringing.step()
                counted.count(entry)
    told, free = bringing.copy.told, destination.free(job)
    return {
        "entries": bringing.entries, "files": bringing.files, "bytes": bringing.size,
        "free": free, "needs": _needs(bringing, free), "deleted": counted.entries, "deleted_bytes": counted.size,
        "shown": [os.fsdecode(path) for path in counted.shown], "unread": told.problem_count,
        "may_delete": deleting.may_delete(told), "modified_ns": bringing.modified_ns,
        "failed_above": [why for path, why in told.problems if f"{job['path']}/".startswith(f"{path}/")],
        "inside": [os.fsdecode(name) for name in bringing.inside],
    }  # fmt: skip


def _needs(bringing: Bringing, free: int) -> int:
    """Bytes that the restore will take; where they seem too many, holes in files are looked for and left out."""
    if bringing.size <= free or bringing.copy.shell or bringing.job["in_place"]:
        return bringing.size
    with trees.open_folder(bringing.copy.data) as data:
        return trees.allocated(data, bringing.top, bringing.step)


def _bring(bringing: Bringing) -> dict[str, Any]:
    job, counted, check = bringing.job, Surplus(), Check(bringing.copy.can, bringing.tell)
    over = job["in_place"] or job["merge"]
    with destination.opened(job) as folder:
        bringing.folder = folder
        made = frozenset(trees.making(folder, bringing.top)) if bringing.top else frozenset()
        _transfer_all(bringing, over, check, counted)
        if is_needed(bringing.copy.can) or has_split_links(folder, bringing.read()):
            giving = Giving(folder, bringing.copy.can, bringing.copy.beside, over)
            giving.give_all(bringing.read, bringing.step)
            bringing.problems += giving.problems
        if job["in_place"]:
            bringing.problems += deleting.delete(folder, bringing.surplus(), counted, bringing.step)
        _give_above(bringing, made)
        bringing.done = 0
        with bringing.recorded() as wanted:
            present = bringing.present(lambda path, why: bringing.problems.append((path, why)))
            check.all(folder, wanted, present, bringing.step, content=over)
        if check.is_content_in_doubt:
            with bringing.recorded() as wanted:
                check.all(folder, wanted, bringing.present(lambda *_: None), bringing.step, content=True)
    problems = list(dict.fromkeys([*bringing.problems, *check.problems]))
    return {
        "entries": bringing.entries, "files": bringing.files, "bytes": bringing.copied, "deleted": counted.entries,
        "problems": [[os.fsdecode(path), why] for path, why in problems[:KEPT_PROBLEMS]],
        "problem_count": len(problems),
    }  # fmt: skip


def _transfer_all(bringing: Bringing, over: bool, check: Check, counted: Surplus) -> None:
    """Clear the way, and bring what the medium holds. rsync's --force would clear it of what is not ours to delete.

    What the snapshot does not have goes last, when all is there; only where there is no room for both it goes before.
    """
    def delete(*, in_the_way: bool) -> bool:
        before, gone = counted.entries, bringing.surplus(in_the_way=in_the_way)
        bringing.problems += deleting.delete(bringing.folder, gone, counted, bringing.step)
        return counted.entries > before

    if bringing.job["in_place"]:
        delete(in_the_way=True)
    try:
        _transfer(bringing, over, check)
    except TargetFull:
        if not bringing.job["in_place"] or not delete(in_the_way=False):
            raise
        _transfer(bringing, over, check)


def _transfer(bringing: Bringing, over: bool, check: Check) -> None:
    """Let rsync bring what the medium holds."""
    job, copy, can = bringing.job, bringing.copy, bringing.copy.can
    holds = rsync.Holds(
        can.owners, can.modes, can.acls, can.xattrs, can.symlinks, can.devices, can.fifo, can.hard_links
    )
    descent, listing = trees.Descent(bringing.folder), ""
    sources: list[int] = []
    try:
        above, name = descent.parent(bringing.top) if bringing.top else (bringing.folder, b"")
        source = copy.entry(bringing.top)
        if bringing.top and not copy.shell:  # its name may be one that no argument can carry: through a list then
            sources.append(os.open(copy.data, trees.FOLDER))
            inside = trees.Descent(sources[0])
            sources.append(os.dup(inside.parent(bringing.top)[0]))
            inside.close()
            source, listing = trees.shown_to_others(sources[1]), os.path.join(job["scratch"], "listing")
            with open(listing, "wb") as file:
                file.write(rsync.listing((name,)))
        command = rsync.restoring(
            source, trees.shown_to_others(above), holds, over=over, listing=listing, shell=copy.shell
        )

        def heard(item: rsync.Item) -> None:
            bringing.done += 1
            bringing.copied += item.length if item.hash else 0
            check.brought(item)

        notes = follow(command, os.path.join(job["scratch"], "output"), heard, bringing.tell)
        bringing.problems += [(b"", note) for note in notes]
    except TargetFull:
        raise TargetFull("no space is left where the restore goes", "What was restored until then is there.") from None
    finally:
        descent.close()
        for fd in sources:
            os.close(fd)


def _give_above(bringing: Bringing, made: frozenset[bytes]) -> None:
    """Folders that had to be made on the way to the wanted path are as they were."""
    wanted = [one for one in bringing.above if one.entry.path in made and one.entry.path != ROOT]
    giving = Giving(bringing.folder, bringing.copy.can, bringing.copy.beside, over=True)
    for one in reversed(wanted):
        giving.give_all(lambda one=one: iter((one,)), lambda: None)  # type: ignore[misc]
    bringing.problems += giving.problems
