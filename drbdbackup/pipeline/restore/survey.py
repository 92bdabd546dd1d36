"""The first pass over what is wanted: how much it is, and what of it needs a phase of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct

from drbdbackup.errors import UsageError
from drbdbackup.manifest import Recorded
from drbdbackup.pipeline.files.compare import expected_size, largest
from drbdbackup.pipeline.restore.apply_metadata import gives_rights
from drbdbackup.pipeline.restore.delete_surplus import is_in
from drbdbackup.pipeline.restore.restore_context import RestoreContext

_NAMED = 100


class Survey(Struct, frozen=True, kw_only=True):
    """What is wanted, counted: a file with several names is one of `inodes`, and once in `bytes`.

    All files together have `most` bytes, and the largest of them `largest_file`, hardly ever more.
    `inside` are the first names in it, `modified_ns` is its time. `has_links`: a file in it has several names.
    `has_privileged`: some of it runs as its owner or has capabilities. `has_unknown`: an older version did not note
    what attributes some of it has.
    """

    entries: int
    files: int
    inodes: int
    bytes: int
    most: int
    largest_file: int
    inside: tuple[str, ...]
    modified_ns: int
    has_links: bool
    has_privileged: bool
    has_unknown: bool


def survey(
    context: RestoreContext, mounted: frozenset[bytes] = frozenset(), add: Callable[[Recorded], None] = lambda _: None
) -> Survey:
    """Count what is wanted; `add` gets each entry.

    Raises UsageError for what would go to another file system: `mounted` are those in the volume.
    """
    top, inside, modified_ns = context.wanted.top, list[str](), 0
    entries = files = names = size = most = largest_file = 0
    has_privileged = has_unknown = False
    inodes: set[int] = set()
    with context.wanted.recorded() as wanted:
        for one in wanted:
            entry = one.entry
            if entry.path == top:
                modified_ns = entry.mtime
            elif top and len(inside) < _NAMED:
                above, _, name = entry.path.rpartition(b"/")
                inside += [os.fsdecode(name)] * (above == top)
            entries += 1
            has_privileged = has_privileged or gives_rights(one)
            has_unknown = has_unknown or not one.attributes
            context.progress.step()
            add(one)
            if mounted:
                _refuse_other(entry.path, mounted)
            if entry.kind == b"f":
                files += 1
                most += largest(one)
                largest_file = max(largest_file, expected_size(one))
                names += entry.inode in inodes
                size += 0 if entry.inode in inodes else entry.size
                if entry.nlink > 1:
                    inodes.add(entry.inode)
    context.progress.done = 0
    return Survey(
        entries=entries, files=files, inodes=entries - names, bytes=size, most=most, largest_file=largest_file,
        inside=tuple(inside), modified_ns=modified_ns, has_links=bool(inodes), has_privileged=has_privileged,
        has_unknown=has_unknown,
    )  # fmt: skip


def _refuse_other(path: bytes, mounted: frozenset[bytes]) -> None:
    """It was the volume's when the snapshot was made. Now it is neither shown, nor kept first, nor compared."""
    folder = path.rpartition(b"/")[0]
    if is_in(folder, mounted):
        text = f"another file system is mounted at {os.fsdecode(folder)!r} or above, and the snapshot has files there"
        raise UsageError(text, "Unmount it and restore again, or restore the rest with --path. Nothing was replaced.")
