"""The caged job that compares two manifests, or a manifest with the volume as a walk has just seen it.

It reads files of the volume only where nothing else tells whether their content is the same, and never a medium. What
differs goes to a file, line by line: there may be as much of it as there are files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any

from drbdbackup import manifest
from drbdbackup.manifest import Recorded, unescape
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.changes import Change, Kind, change, is_in_doubt, is_same, merged, parsed, unhashed
from drbdbackup.pipeline.checking import content_hash
from drbdbackup.pipeline.source import guarded
from drbdbackup.pipeline.trees import Descent, open_folder
from drbdbackup.scan import Spool, raise_open_files

KEPT_PROBLEMS = 1000
_BEAT = 0x3FFF  # entries between two signs of life


@dataclass(slots=True)
class Comparing:
    """A comparison under way. `volume` leads to the files of today, None between two snapshots.

    What today's walk could not read is `unread`: what lies in such a folder is unknown, and an entry that the walk does
    not have (which a comparison takes for `gone`) may be there. `problems` are the first 1000 of `problem_count`.
    """

    channel: Channel
    into: IO[bytes]
    volume: Descent | None
    unread: frozenset[bytes] = frozenset()
    gone: Kind = Kind.REMOVED
    seen: int = 0
    same: int = 0
    problem_count: int = 0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    sizes: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    problems: list[tuple[bytes, str]] = field(default_factory=list)

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.progress(entries=self.seen, done_bytes=0, copied_bytes=0)

    def object(self, path: bytes, why: str) -> None:
        """Nobody can tell whether this is the same."""
        self.problem_count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append((path, why))

    def write(self, one: Change) -> None:
        """One more entry that is not the same."""
        if self.unread and self._is_unknown(one):
            return
        self.counts[one.kind] += 1
        self.sizes[one.kind] += one.entry.size if one.entry.kind == b"f" else 0
        told = {
            "path": os.fsdecode(one.entry.path), "change": one.kind.value, "what": list(one.what),
            "letter": one.entry.kind.decode(), "before": one.before and one.before.size,
            "after": one.after and one.after.size,
        }  # fmt: skip
        self.into.write(json.dumps(told).encode() + b"\n")

    def _is_unknown(self, one: Change) -> bool:
        parts = one.entry.path.split(b"/")
        above = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
        return (one.kind is self.gone and one.entry.path in self.unread) or any(path in self.unread for path in above)


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Compare the files `before` and `after` (manifests, or the spool of a walk over `source`, called `spool`).

    What differs goes to the file `into`, a JSON object a line. The answer: `counts` and `bytes` by `Kind`, `same`
    entries, and `problems`: what the walk or we could not read.
    """
    raise_open_files()
    with ExitStack() as stack:
        guard = guarded(job) if job.get("source") else None
        volume = Descent(stack.enter_context(open_folder(job["source"]))) if guard else None
        if volume is not None:
            stack.callback(volume.close)
        comparing = Comparing(channel, stack.enter_context(open(job["into"], "xb")), volume)
        if volume is not None:
            _take_in_problems(comparing, job)
        before, after = (stack.enter_context(_lines(job[side], job, comparing)) for side in ("before", "after"))
        for one, other in merged(before, after):
            comparing.seen += 1
            if not comparing.seen & _BEAT:
                comparing.tell()
            _judge(comparing, one, other)
        if guard is not None:
            guard.check()
    return {
        "counts": {kind.value: number for kind, number in comparing.counts.items()},
        "bytes": {kind.value: size for kind, size in comparing.sizes.items()},
        "same": comparing.same, "problem_count": comparing.problem_count,
        "problems": [[os.fsdecode(path), why] for path, why in comparing.problems],
    }  # fmt: skip


def _take_in_problems(comparing: Comparing, job: dict[str, Any]) -> None:
    """What the walk could not read stands at the end of its spool, and is to be known before its first line."""
    spool = Spool(job["spool"], job["patience"])
    for number, _ in enumerate(spool):
        if not number & _BEAT:
            comparing.tell()
    for path, why in spool.problems:
        comparing.object(unescape(path), os.fsdecode(why))
    comparing.unread = frozenset(unescape(path) for path, _ in spool.problems)
    comparing.gone = Kind.REMOVED if job["spool"] == job["after"] else Kind.ADDED


@contextmanager
def _lines(file: str, job: dict[str, Any], comparing: Comparing) -> Iterator[Iterator[bytes]]:
    if file != job.get("spool"):
        with manifest.reading(file) as lines:
            yield lines
        return
    yield unhashed(Spool(file, job["patience"]))


def _judge(comparing: Comparing, before: bytes | None, after: bytes | None) -> None:
    if before is None and after is not None:
        comparing.write(Change(Kind.ADDED, None, parsed(after).entry))
    elif after is None and before is not None:
        comparing.write(Change(Kind.REMOVED, parsed(before).entry, None))
    elif before is not None and after is not None:
        if is_same(before, after):
            comparing.same += 1
        else:
            _look_closer(comparing, parsed(before), parsed(after))


def _look_closer(comparing: Comparing, before: Recorded, after: Recorded) -> None:
    if comparing.volume is not None and is_in_doubt(before, after):
        try:
            found = content_hash(*comparing.volume.parent(before.entry.path), comparing.tell)
        except OSError as error:
            comparing.object(before.entry.path, f"not read: {error.strerror}")
            return
        before, after = (replace(one, hash=one.hash or found) for one in (before, after))
    differs = change(before, after)
    if differs is None:
        comparing.same += 1
    else:
        comparing.write(differs)
