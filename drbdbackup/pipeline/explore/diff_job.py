"""The caged job that compares two manifests, or a manifest with the volume as a walk has just seen it.

It reads files of the volume only where nothing else shows whether their content is the same, and never a medium. What
differs goes to a file, line by line: there may be as much of it as there are files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import manifest
from drbdbackup.manifest import Recorded, path_of, split
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.explore.changes import (
    Change,
    ChangeKind,
    change,
    is_in_doubt,
    is_same,
    merged,
    parsed,
    unhashed,
)
from drbdbackup.pipeline.explore.diff_protocol import DiffJob, DiffResult, WalkedVolume
from drbdbackup.pipeline.explore.renamed_folders import WholeFolders, renamed
from drbdbackup.pipeline.files.compare import grown
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.tree import ParentOpener, open_folder
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.volume.guard import guarded
from drbdbackup.scan import Spool, raise_open_files
from drbdbackup.targets.sidecar import KEPT_PROBLEMS

_BEAT = 0x3FFF  # entries between two signs of life


class Comparing(Struct, kw_only=True):
    """A comparison under way. `volume` leads to the files of today, None between two snapshots; `hashes` are theirs.

    What today's walk could not read is `unread`: what lies in such a folder is unknown, and an entry that the walk does
    not have (which a comparison takes for `gone`) may be there. `problems` are the first 1000 of `problem_count`.
    """

    channel: Channel
    into: IO[bytes]
    volume: ParentOpener | None
    hashes: ContentHashes
    unread: frozenset[bytes] = frozenset()
    gone: ChangeKind = ChangeKind.REMOVED
    seen: int = 0
    same: int = 0
    problem_count: int = 0
    counts: dict[ChangeKind, int] = field(default_factory=lambda: dict.fromkeys(ChangeKind, 0))
    sizes: dict[ChangeKind, int] = field(default_factory=lambda: dict.fromkeys(ChangeKind, 0))
    problems: list[Problem] = field(default_factory=list)
    whole: dict[ChangeKind, WholeFolders] = field(
        default_factory=lambda: {ChangeKind.REMOVED: WholeFolders(), ChangeKind.ADDED: WholeFolders()}
    )

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.send_progress(Progress(self.seen, 0, 0))

    def object(self, path: bytes, why: str) -> None:
        """Note an entry that cannot be compared."""
        self.problem_count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem.at(path, why))

    def write_single(self, kind: ChangeKind, one: Recorded) -> None:
        """One more entry that only one side has."""
        is_added = kind is ChangeKind.ADDED
        change = Change(kind, None if is_added else one.entry, one.entry if is_added else None)
        if self.write(change):
            self.whole[kind].add(one, is_sure=one.entry.path not in self.unread)

    def write(self, one: Change) -> bool:
        """One more entry that is not the same; False if nobody can know that."""
        if self.unread and self._is_unknown(one):
            return False
        self.counts[one.kind] += 1
        self.sizes[one.kind] += one.entry.size if one.entry.kind == b"f" else 0
        document = {
            "path": os.fsdecode(one.entry.path), "change": one.kind.value, "what": list(one.what),
            "letter": one.entry.kind.decode(), "before": one.before and one.before.size,
            "after": one.after and one.after.size,
        }  # fmt: skip
        self.into.write(json.dumps(document).encode() + b"\n")
        return True

    def _is_unknown(self, one: Change) -> bool:
        parts = one.entry.path.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        return (one.kind is self.gone and one.entry.path in self.unread) or any(path in self.unread for path in above)


def do(job: DiffJob, channel: Channel) -> DiffResult:
    """Compare the two sides. Raises Interrupted if the volume goes away."""
    raise_open_files()
    with ExitStack() as stack:
        guard = guarded(job.to_guard) if job.to_guard else None
        volume = ParentOpener(stack.enter_context(open_folder(guard.source))) if guard else None
        if volume is not None:
            stack.callback(volume.close)
        hashes = ContentHashes(lambda _: comparing.tell())
        into = stack.enter_context(open(job.into, "xb"))
        comparing = Comparing(channel=channel, into=into, volume=volume, hashes=hashes)
        if job.volume is not None:
            _add_problems(comparing, job.volume, os.fsencode(job.path), is_after=job.volume.spool == job.after)
        before, after = (stack.enter_context(_lines(side, job.volume)) for side in (job.before, job.after))
        for one, other in merged(before, after):
            comparing.seen += 1
            if not comparing.seen & _BEAT:
                comparing.tell()
            if not job.path or _is_within(os.fsencode(job.path), one or other or b""):
                _judge(comparing, one, other)
        if guard is not None:
            guard.check()
    return DiffResult(
        {kind.value: number for kind, number in comparing.counts.items()},
        {kind.value: size for kind, size in comparing.sizes.items()}, comparing.same, comparing.problem_count,
        tuple(comparing.problems),
        renamed(comparing.whole[ChangeKind.REMOVED], comparing.whole[ChangeKind.ADDED]),
    )  # fmt: skip


def _is_within(top: bytes, line: bytes) -> bool:
    """Whether a line is about this path, or what is below it."""
    path = path_of(split(line)[1])
    return path == top or path.startswith(top + b"/")


def _add_problems(comparing: Comparing, volume: WalkedVolume, top: bytes, *, is_after: bool) -> None:
    """What the walk could not read stands at the end of its spool, and is to be known before its first line.

    Of what is not below `top` only that is of interest in which it lies.
    """
    spool = Spool(volume.spool, volume.patience)
    for number, _ in enumerate(spool):
        if not number & _BEAT:
            comparing.tell()
    for problem in spool.problems:
        path = problem.entry_path
        if not top or (path + b"/").startswith(top + b"/") or (top + b"/").startswith(path + b"/"):
            comparing.object(path, problem.reason)
    comparing.unread = frozenset(problem.entry_path for problem in spool.problems)
    comparing.gone = ChangeKind.REMOVED if is_after else ChangeKind.ADDED


@contextmanager
def _lines(file: str, volume: WalkedVolume | None) -> Iterator[Iterator[bytes]]:
    if volume is None or file != volume.spool:
        with manifest.reading(file) as lines:
            yield lines
        return
    yield unhashed(Spool(file, volume.patience))


def _judge(comparing: Comparing, before: bytes | None, after: bytes | None) -> None:
    if before is None and after is not None:
        comparing.write_single(ChangeKind.ADDED, parsed(after))
    elif after is None and before is not None:
        comparing.write_single(ChangeKind.REMOVED, parsed(before))
    elif before is not None and after is not None:
        if is_same(before, after):
            comparing.same += 1
        else:
            _look_closer(comparing, parsed(before), parsed(after))


def _look_closer(comparing: Comparing, before: Recorded, after: Recorded) -> None:
    if comparing.volume is not None and is_in_doubt(before, after):
        try:
            folder, name = comparing.volume.parent(before.entry.path)
            names = max(before.entry.nlink, after.entry.nlink)
            most = grown(max(before.entry.size, after.entry.size))
            found = comparing.hashes.of(folder, name, names=names, most=most)
        except OSError as error:
            comparing.object(before.entry.path, f"not read: {error.strerror}")
            return
        before, after = (replace(one, hash=one.hash or found) for one in (before, after))
    differs = change(before, after)
    if differs is None:
        comparing.same += 1
    else:
        comparing.write(differs)
