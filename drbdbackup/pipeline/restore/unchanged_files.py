"""Files that are in the destination already, with the content that was backed up: they are not transferred."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing

from drbdbackup.manifest import Recorded
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import largest, shape
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.restore.wanted_entries import WantedEntries
from drbdbackup.tools import rsync


def leave_out(listing: str, wanted: WantedEntries, folder: int, on_piece: Callable[[], None]) -> None:
    """Take from the file `listing` what is in the open `folder` already. `on_piece` is called while files are read."""
    shorter, hashes = f"{listing}-shorter", ContentHashes(lambda _: on_piece())
    with ExitStack() as stack:
        listed = stack.enter_context(open(listing, "rb"))
        to = stack.enter_context(open(shorter, "wb"))
        here = stack.enter_context(closing(tree.ParentOpener(folder)))
        entries = stack.enter_context(wanted.recorded())
        for name in rsync.read_listing(listed):
            one = next(one for one in entries if one.entry.path == wanted.base + name)
            if not _is_there(here, one, hashes):
                to.write(rsync.listed(name))
    os.replace(shorter, listing)


def _is_there(here: tree.ParentOpener, one: Recorded, hashes: ContentHashes) -> bool:
    """Whether an entry has type and content; whatever else it should have is given later."""
    try:
        above, name = here.parent(one.entry.path)
        there = tree.entry_at(above, name, one.entry.path)
        if shape(one, there) or one.entry.kind != b"f":
            return not shape(one, there)
        return hashes.of(above, name, names=there.nlink, most=largest(one) + 1) == one.hash
    except OSError:
        return False
