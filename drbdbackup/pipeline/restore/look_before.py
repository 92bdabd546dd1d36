"""What a restore would do: how much would come, what would be deleted, and what is in its way. Nothing is written."""

from __future__ import annotations

import os

from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import paired
from drbdbackup.pipeline.restore import delete_surplus
from drbdbackup.pipeline.restore.delete_surplus import Surplus
from drbdbackup.pipeline.restore.immutable_files import ImmutableFiles
from drbdbackup.pipeline.restore.restore_context import RestoreContext
from drbdbackup.pipeline.restore.restore_protocol import RestoreLook
from drbdbackup.pipeline.restore.survey import Survey, survey
from drbdbackup.pipeline.volume import destination


def look(context: RestoreContext, mounted: frozenset[bytes]) -> RestoreLook:
    """Look at the copy and at the destination, in which other file systems are `mounted`.

    Raises UsageError for what a restore could not do there.
    """
    job, found, sidecar = context.job, survey(context, mounted), context.copy.sidecar
    destination.check(job.destination)
    surplus = Surplus()
    if job.in_place:
        with destination.opened(job.destination, caged=job.here.caged) as folder:
            surplus = _surplus(context, folder)
    elif (into := destination.to_merge_into(job.destination)) is not None:
        try:
            _refuse_protected(context, into)
        finally:
            os.close(into)
    free = destination.free(job.destination)
    return RestoreLook(
        entries=found.entries, files=found.files, bytes=found.bytes, free=free, needs=_needs(context, found, free),
        lacks_inodes=0 if job.in_place else destination.lacking_inodes(job.destination, found.inodes),
        deleted=surplus.entries, deleted_bytes=surplus.size, shown=tuple(map(os.fsdecode, surplus.shown)),
        unread=sidecar.unread_count, may_delete=delete_surplus.may_delete(sidecar), modified_ns=found.modified_ns,
        failed_above=tuple(one.reason for one in sidecar.unread if f"{job.path}/".startswith(f"{one.path}/")),
        inside=found.inside,
    )  # fmt: skip


def _surplus(context: RestoreContext, folder: int) -> Surplus:
    """What would be deleted from the open volume. What has to be replaced or deleted must not be immutable."""
    tree.check_way(folder, context.wanted.top)
    counted, protected = Surplus(), ImmutableFiles(folder, context.copy.can)
    for entry in context.surplus(folder, seen=protected.look):
        context.progress.step()
        counted.count(entry)
    protected.refuse()
    return counted


def _refuse_protected(context: RestoreContext, folder: int) -> None:
    """Of what is to be merged into, what has to be replaced must not be immutable."""
    protected = ImmutableFiles(folder, context.copy.can)
    for one, there in paired(context.wanted.read(), context.present(folder)):
        context.progress.step()
        if one is not None:
            protected.look(one, there)
    protected.refuse()


def _needs(context: RestoreContext, found: Survey, free: int | None) -> int:
    """Bytes that the restore will take; where they seem too many, holes in files are looked for and left out."""
    if free is None or found.bytes <= free or context.copy.shell or context.job.in_place:
        return found.bytes
    with tree.open_folder(context.copy.data) as data:
        return tree.allocated(data, context.wanted.top, context.progress.step)
