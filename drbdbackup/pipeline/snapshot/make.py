"""Makes one snapshot's tree and manifest on one target: link what is unchanged, copy the rest, write it down.

Works inside a cage, on folders that are given to it; it never publishes, never writes into a published copy and never
into what a crash left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from typing import BinaryIO

from msgspec import Struct

from drbdbackup import manifest
from drbdbackup.manifest import NOTHING, is_short, is_unknown, lacks_of, parse, path_of, recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.snapshot import plan
from drbdbackup.pipeline.snapshot.copy_files import Copier, ResumeFile, settled
from drbdbackup.pipeline.snapshot.folder_metadata import Folders
from drbdbackup.pipeline.snapshot.hard_links import Linker
from drbdbackup.pipeline.snapshot.plan import KEPT, Planned, Planner, SameFiles, Step, size_of
from drbdbackup.pipeline.snapshot.recycled_tree import RecycledTree
from drbdbackup.pipeline.snapshot.set_aside import Aside
from drbdbackup.pipeline.snapshot.target_limits import short
from drbdbackup.pipeline.snapshot.workspace import COPIED, GROUPS, PLAN, UNLINKED, Workspace, decided
from drbdbackup.scan import Spool
from drbdbackup.targets.sidecar import MANIFEST


def make_snapshot(workspace: Workspace, spool: Spool) -> Made:
    """Fill `data` and write `manifest.gz`. Raises what ends the copy of this target, or UnusableTreeError."""
    planner = Planner(workspace.bases, workspace.holdable, workspace.names)
    with ExitStack() as stack:
        linker = Linker([base.data for base in workspace.bases], workspace.place.data, workspace.workers)
        stack.callback(linker.close)
        planned = stack.enter_context(open(workspace.scratch(PLAN), "wb"))
        folders = Folders(workspace)
        stack.callback(folders.close)
        tree = RecycledTree(workspace.place.data, workspace.bases[0].data) if workspace.recycling else None
        if tree is not None:
            stack.callback(tree.close)
        for base in workspace.bases:
            base.on_gone = folders.gone
        kept = ResumeFile(workspace.at(COPIED), workspace.sign)
        filler = Copier(workspace.place, COPIED, workspace.filled, workspace.tell, kept)
        _first_pass(workspace, spool, planner, linker, filler, planned.write, folders, tree)
        for base in workspace.bases:
            base.finish()
        if tree is not None:
            tree.finish()
        linker.finish()
        filler.close()
        workspace.place.reading.close()
        planned.flush()
        _second_pass(workspace, planner, linker, folders, tree)
        _third_pass(workspace, planner, linker.failed)
        folders.write_all()
    return write_manifest(workspace, planner, linker.failed)


def _first_pass(
    workspace: Workspace, spool: Spool, planner: Planner, linker: Linker, filler: Copier,
    write: Callable[[bytes], object], folders: Folders, tree: RecycledTree | None,
) -> None:  # fmt: skip
    """Decide for each entry as the walk finds it; make folders, link and copy what needs no second thought."""
    bases = [os.path.dirname(base.data) for base in workspace.bases]
    aside = Aside(workspace.place, workspace.fresh, bases, workspace.filled)
    data = os.open(workspace.place.data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        keep = partial(_keep, workspace, linker, write, tree)
        for line in _to_decide(workspace, spool, planner, filler, keep):
            planned = planner.decide(line)
            if planned.step is Step.ASIDE:
                planned = aside.put(planned)
            path = path_of(line)
            index, recorded_there = planner.alike
            if index >= 0 and (same := filler.same_content(path, line, recorded_there, workspace.seen)):
                planned = Planned(Step.LINK, index, same, line)
            is_there = workspace.updating or (tree is not None and tree.has(planned, path))
            if is_there and planned.step is Step.LINK_GROUP:
                planned = Planned(planned.step, KEPT, planned.front, line)
            write(plan.write(planned))
            if planned.step is Step.LINK:
                workspace.linked_bytes += size_of(line)
                if not is_there:
                    linker.add(planned.base, path)
            elif planned.step is Step.COPY:
                folders.touched(path)
                filler.add(path, line, workspace.seen)
            elif planned.step is Step.FOLDER:
                folders.entered(planned)
                filler.entered(line)
                if not (workspace.updating and planned.front and not is_unknown(planned.front)):
                    folders.differs()
                if not (is_there and tree):
                    with suppress(FileExistsError):
                        os.mkdir(path, 0o700, dir_fd=data)
    finally:
        os.close(data)


def _keep(
    workspace: Workspace, linker: Linker, write: Callable[[bytes], object], tree: RecycledTree | None, same: SameFiles
) -> None:
    """Files that are linked from the first base, unless they are there."""
    workspace.linked_bytes += same.bytes
    if not workspace.updating:
        for path in same.paths if tree is None else tree.lacking(same.paths):
            linker.add(0, path)
    write(plan.write_same(same))


def _to_decide(
    workspace: Workspace, spool: Spool, planner: Planner, filler: Copier, keep: Callable[[SameFiles], None]
) -> Iterator[bytes]:
    """The spool lines, but for those of files that there is nothing to think about; `workspace.seen` is the number of
    each.
    """
    for lines in chain.from_iterable(map(workspace.taken, spool.batches())):
        workspace.place.started_ns = spool.started_ns
        number = 0
        while number < len(lines):
            if same := planner.same_files(lines, number):
                keep(same)
                number += len(same.paths)
                if workspace.met_more(len(same.paths)):
                    filler.passed(workspace.seen)
            else:
                if workspace.met(lines[number]):
                    filler.passed(workspace.seen - 1)
                yield lines[number]
                number += 1


def _second_pass(
    workspace: Workspace, planner: Planner, linker: Linker, folders: Folders, tree: RecycledTree | None
) -> None:
    """Names of multiply linked inodes: all copied together, or all linked."""
    groups = Copier(workspace.place, GROUPS, workspace.filled, workspace.tell)
    if planner.has_groups:
        for planned in decided(workspace, planner):
            if planned.step is Step.FOLDER:
                folders.entered(planned)
                groups.entered(planned.line)
            elif planned.step is Step.COPY_GROUP:
                folders.touched(path_of(planned.line))
                if tree is not None:
                    tree.remove(path_of(planned.line))
                groups.add(path_of(planned.line), planned.line)
            elif planned.step is Step.LINK_GROUP and planned.base != KEPT:
                linker.add(planned.base, path_of(planned.line))
        linker.finish()
    groups.close()


def _third_pass(workspace: Workspace, planner: Planner, unlinked: set[bytes]) -> None:
    """What could not be linked (too many links on the inode, a damaged base) is copied after all."""
    again = Copier(workspace.place, UNLINKED, workspace.filled, workspace.tell)
    if unlinked:
        for planned in decided(workspace, planner):
            if planned.step is Step.FOLDER:
                again.entered(planned.line)
            elif planned.step in (Step.LINK, Step.LINK_GROUP) and path_of(planned.line) in unlinked:
                again.add(path_of(planned.line), planned.line)
    again.close()


class Made(Struct, frozen=True):
    """What `make` has made: the SHA-256 of `manifest.gz` and the number of entries in it."""

    manifest_sha256: str
    entries: int


def write_manifest(workspace: Workspace, planner: Planner, unlinked: set[bytes]) -> Made:
    """Write `manifest.gz`; `unlinked` are the paths copied after all."""
    writer = manifest.Writer(workspace.at(MANIFEST))
    entries = 0
    with ExitStack() as stack:
        written = {
            name: _Recorded(stack.enter_context(open(workspace.scratch(name), "rb")))
            for name in (COPIED, GROUPS, UNLINKED)
        }
        lines = stack.enter_context(open(workspace.scratch(PLAN), "rb", buffering=1 << 18))
        for count, part in plan.parts(lines, whole=not unlinked):
            if count:
                writer.add_lines(part)
                entries += count
                continue
            found = b"" if unlinked else plan.linked(part)
            if not found:
                planned = planner.resolve(plan.read(part))
                found = _line(workspace, planned, written, unlinked)
            if found:
                found = _with_attributes(workspace, found)
                writer.add_line(found)
                entries += 1
                if is_short(found):
                    workspace.filled.problems.append(_short(found))
    writer.close()
    return Made(writer.sha256, entries)


def _line(workspace: Workspace, planned: Planned, written: Mapping[str, _Recorded], unlinked: set[bytes]) -> bytes:
    """An entry's line; nothing if it has no place in the manifest."""
    step, line = planned.step, planned.line
    if step is Step.LOST:
        return b""
    if step is Step.COPY:
        return written[COPIED].of(line)
    if step is Step.COPY_GROUP:
        return written[GROUPS].of(line)
    if unlinked and step is not Step.FOLDER and path_of(line) in unlinked:
        return written[UNLINKED].of(line)
    return _front(workspace, planned) + b" " + line


def _front(workspace: Workspace, planned: Planned) -> bytes:
    """The `hash flag attributes` of an entry that was not copied."""
    step, line = planned.step, planned.line
    if step is Step.FOLDER and workspace.short and path_of(line) in workspace.short:
        return _own_front(workspace, line)
    if step is Step.FOLDER and workspace.words and (word := workspace.words.get(path_of(line))):
        return b" ".join(((planned.front or _own_front(workspace, line)).rsplit(b" ", 1)[0], word))
    return planned.front or _own_front(workspace, line)


class _Recorded:
    """The lines that a filler wrote down, read in step with the plan."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self._recorded, self._line = b"", b""
        self._next()

    def of(self, line: bytes) -> bytes:
        """The line of the entry that has this spool line, or nothing if it was not copied.

        Owner and mode may be others: of what was copied.
        """
        if line != self._line and (not self._line or path_of(line) != path_of(self._line)):
            return b""
        recorded = self._recorded
        self._next()
        return recorded

    def _next(self) -> None:
        self._recorded = self._lines.readline()
        self._line = manifest.split(self._recorded)[1] if self._recorded else b""


def _own_front(workspace: Workspace, line: bytes) -> bytes:
    """The front of what has no content: folders, and entries that only the manifest keeps."""
    entry = parse(line)
    lacks = workspace.short.get(entry.path, ())
    kept = workspace.place.kept(entry.path, entry.ctime, entry.inode, workspace.filled.problems, lacks)
    return b" ".join((NOTHING, settled(entry.ctime, workspace.place.started_ns), kept))


def _with_attributes(workspace: Workspace, line: bytes) -> bytes:
    """A manifest's line with the entry's attributes: those taken over from an older version's do not have them."""
    content, flag, word, rest = line.split(b" ", 3)
    if word != NOTHING or not workspace.place.holds_attributes or flag.isupper():
        return line
    entry = parse(rest)
    with suppress(OSError):
        word = workspace.place.kept(entry.path, entry.ctime, entry.inode, workspace.filled.problems)
    return b" ".join((content, flag, word, rest))


def _short(line: bytes) -> Problem:
    """The problem of an entry of which the target cannot hold everything, in this copy or since an older one."""
    one = recorded(line)
    return short(one.entry.path, lacks_of(one.attributes))
