"""The caged job that looks through the manifests of copies on one medium for paths. It reads no file of a tree.

A manifest is read as a stream and parsed only where a path is meant: a million lines cost about a second or two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from drbdbackup import manifest
from drbdbackup.errors import Damaged, NothingFound, UsageError
from drbdbackup.manifest import ROOT, Recorded, is_safe, recorded
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.lying import Lying, lying, medium
from drbdbackup.pipeline.pattern import matching

MOST = 10_000  # paths in one snapshot that an answer may name
_BEAT = 0x3FFF  # lines between two signs of life


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Look through the copies of `snapshots` for `pattern` (hex).

    Events: "version" for what was found in a snapshot, then "read" with its name; "unread" with `why` for one that is
    not there or damaged. Raises UsageError if the pattern means too much, TargetError if the medium goes away.
    """
    meant = matching(bytes.fromhex(job["pattern"]))
    with _copies(job, channel) as copy_of:
        for name in job["snapshots"]:
            try:
                for one in _found(copy_of(name), meant, channel):
                    channel.tell("version", snapshot=name, path=os.fsdecode(one.entry.path), version=_told(one))
            except (Damaged, NothingFound) as error:
                channel.tell("unread", snapshot=name, why=error.message)
            else:
                channel.tell("read", snapshot=name)
    return {}


@contextmanager
def _copies(job: dict[str, Any], channel: Channel) -> Iterator[Callable[[str], Lying]]:
    """The way to the copies: a peer gives one at a time."""
    if job.get("peer"):
        with lying(job, channel) as copy:
            yield lambda _: copy
        return
    with medium(job, channel) as copy_of:
        yield copy_of


def _found(copy: Lying, meant: Callable[[bytes], bool], channel: Channel) -> Iterator[Recorded]:
    count = 0
    with manifest.reading(copy.manifest) as lines:
        for number, line in enumerate(lines):
            if not number & _BEAT:
                channel.progress(entries=number, done_bytes=0, copied_bytes=0)
            if not meant(_path(line)):
                continue
            one = recorded(line)
            if one.entry.path == ROOT:
                continue
            if not is_safe(one.entry.path):
                raise Damaged(f"the manifest has an entry that makes no sense: {one.entry.path[:200]!r}")
            count += 1
            if count > MOST:
                raise UsageError(f"more than {MOST:,} paths are meant", "Give more of the path, or a longer name.")
            yield one


def _path(line: bytes) -> bytes:
    try:
        return manifest.path_of(manifest.split(line)[1])
    except IndexError:
        raise Damaged(f"a manifest line cannot be read: {line[:80]!r}") from None


def _told(one: Recorded) -> dict[str, Any]:
    entry = one.entry
    size = entry.size if entry.kind == b"f" else 0
    return {
        "kind": entry.kind.decode(), "hash": one.hash, "size": size, "mtime": entry.mtime,
        "link": os.fsdecode(entry.link),
    }  # fmt: skip
