"""The open destination of a restore, and what is to be known of it before anything comes into it."""

from __future__ import annotations

import time
from contextlib import closing, suppress

from msgspec import Struct

from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import paired
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.metadata import SET_ID
from drbdbackup.pipeline.restore.apply_metadata import gives_rights, runs_as_owner
from drbdbackup.pipeline.restore.immutable_files import is_protected_as_it_was
from drbdbackup.pipeline.restore.restore_context import RestoreContext

_TICK_NS = 20_000_000  # by which a file that was just changed may seem older


class OpenDestination(Struct, frozen=True, kw_only=True):
    """The open `folder` that everything goes below. The folders in `made` had to be made above what is wanted.

    What changed since `begun` (ns) came with this restore. What is in place with its `set_id` mode loses that until the
    end, which is no change of it. What is `protected` (by chattr) and as it was is left alone.
    """

    folder: int
    made: frozenset[bytes]
    begun: int
    set_id: frozenset[bytes] = frozenset()
    protected: frozenset[bytes] = frozenset()


def prepare(context: RestoreContext, folder: int, *, has_privileged: bool) -> OpenDestination:
    """Look at the open `folder`, and make the folders above what is wanted. `has_privileged`: see `Survey`."""
    set_id, protected = _with_rights(context, folder) if context.job.over and has_privileged else (set(), set())
    top = context.wanted.top
    made = frozenset(tree.making(folder, top)) if top else frozenset()
    begun = time.time_ns() - _TICK_NS
    return OpenDestination(
        folder=folder, made=made, begun=begun, set_id=frozenset(set_id), protected=frozenset(protected)
    )


def _with_rights(context: RestoreContext, folder: int) -> tuple[set[bytes], set[bytes]]:
    """What is in place and runs as its owner, as it should, and what `chattr` protects: that loses nothing.

    What does not run so, and should, is a change: rsync would not see it.
    """
    set_id, protected = set[bytes](), set[bytes]()
    hashes = ContentHashes(lambda _: context.progress.tell())
    with context.wanted.recorded() as wanted, closing(tree.ParentOpener(folder)) as opener:
        for one, there in paired(wanted, context.present(folder)):
            context.progress.step()
            if one is None or there is None or not gives_rights(one) or there.kind != one.entry.kind:
                continue
            with suppress(OSError):
                if is_protected_as_it_was(*opener.parent(one.entry.path), one, there, context.copy.can, hashes):
                    protected.add(one.entry.path)
            if not (context.job.in_place and runs_as_owner(one)):
                continue
            if there.mode == one.entry.mode:
                set_id.add(one.entry.path)
            elif there.mode & ~SET_ID == one.entry.mode & ~SET_ID:
                context.progress.changed += 1
    return set_id, protected
