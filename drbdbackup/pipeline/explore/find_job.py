"""The caged job that looks through the manifests of copies on one medium for paths. It reads no file of a tree.

A manifest is read as a stream and parsed only where a path is meant: a million lines cost about a second or two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drbdbackup import manifest
from drbdbackup.errors import Damaged, NothingFound, UsageError
from drbdbackup.manifest import ROOT, Recorded, is_safe, recorded
from drbdbackup.pipeline.cage.protocol import Ended
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, open_copy, open_medium
from drbdbackup.pipeline.copies.read_protocol import AtPeer, Unread
from drbdbackup.pipeline.explore.find_protocol import FindJob, Searched, VersionFound
from drbdbackup.pipeline.explore.pattern import matching
from drbdbackup.pipeline.explore.versions import Version
from drbdbackup.pipeline.progress import Progress

MOST = 10_000  # paths in one snapshot that an answer may name
_BEAT = 0x3FFF  # lines between two signs of life


def do(job: FindJob, channel: Channel) -> Ended:
    """Look through the copies of `snapshots` for `pattern`.

    Raises UsageError if the pattern means too much, TargetError if the medium goes away.
    """
    meant = matching(job.pattern)
    with _copies(job, channel) as copy_of:
        for name in job.snapshots:
            try:
                for one in _found(copy_of(name), meant, channel):
                    channel.send(VersionFound(name, os.fsdecode(one.entry.path), _version(one)))
            except (Damaged, NothingFound) as error:
                channel.send(Unread(name, error.message))
            else:
                channel.send(Searched(name))
    return Ended()


@contextmanager
def _copies(job: FindJob, channel: Channel) -> Iterator[Callable[[str], OpenCopy]]:
    """The way to the copies: a peer gives one at a time."""
    if isinstance(job.copy.way, AtPeer):
        with open_copy(job, channel, trees=False) as copy:
            yield lambda _: copy
        return
    with open_medium(job, channel, trees=False) as copy_of:
        yield copy_of


def _found(copy: OpenCopy, meant: Callable[[bytes], bool], channel: Channel) -> Iterator[Recorded]:
    count = 0
    with manifest.reading(copy.manifest) as lines:
        for number, line in enumerate(lines):
            if not number & _BEAT:
                channel.send_progress(Progress(number, 0, 0))
            if not meant(_path(line)):
                continue
            one = recorded(line)
            if one.entry.path == ROOT:
                continue
            if not is_safe(one.entry.path):
                raise Damaged(f"the manifest has an invalid entry: {one.entry.path[:200]!r}")
            count += 1
            if count > MOST:
                raise UsageError(f"it matches more than {MOST:,} paths", "Use a longer name or more of the path.")
            yield one


def _path(line: bytes) -> bytes:
    try:
        return manifest.path_of(manifest.split(line)[1])
    except IndexError:
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None


def _version(one: Recorded) -> Version:
    entry = one.entry
    size = entry.size if entry.kind == b"f" else 0
    return Version(entry.kind.decode(), one.hash, size, entry.mtime, os.fsdecode(entry.link))
