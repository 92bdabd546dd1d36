"""Gives what was transferred its metadata, and compares it with the manifest: by descriptors, after all is there."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, closing

from msgspec.structs import replace

from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import is_aside, paired
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.restore import delete_surplus, transfer
from drbdbackup.pipeline.restore.apply_metadata import (
    MetadataWriter,
    TreeMetadataWriter,
    has_split_links,
    is_needed,
    is_other,
)
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.open_destination import OpenDestination
from drbdbackup.pipeline.restore.plain_files import is_plain, knows_all
from drbdbackup.pipeline.restore.privileged_files import RightsWriter
from drbdbackup.pipeline.restore.proven_metadata import ProvenMetadataWriter, apply_proven
from drbdbackup.pipeline.restore.restore_context import RestoreContext
from drbdbackup.pipeline.restore.transfer import Transfer


def make_missing(context: RestoreContext, done: Transfer, there: OpenDestination) -> None:
    """Make what the medium had no place for, and join the names of files that came as several."""
    if is_needed(context.copy.can) or (
        done.survey.has_links and has_split_links(there.folder, context.wanted.read())
    ):
        making = TreeMetadataWriter(
            there.folder, _writer(context, done), context.copy.beside, over=context.job.over, makes_only=True
        )
        making.write_all(context.wanted.read, context.progress.step)
        context.progress.problems += making.problems


def write_and_check(context: RestoreContext, done: Transfer, there: OpenDestination, check: RestoreCheck) -> None:
    """Give all but file rights, and compare what is there with the manifest, in one walk. Then the folders above."""
    job, copy, folder = context.job, context.copy, there.folder
    only = None if job.over else context.wanted.top
    since = there.begun if copy.shell and job.over and not job.in_place else None
    not_read: list[Problem] = []

    def is_right(one: Recorded, seen: Entry) -> bool:
        """Whether it is known to have all that the manifest says, and nothing else."""
        if one.entry.path in there.protected:
            return True
        return done.is_plain_right and is_plain(one) and not is_other(one.entry, seen)

    with ExitStack() as stack:
        wanted = stack.enter_context(context.wanted.recorded())
        present = context.present(folder, not_read.append, all_there=not job.over)
        medium = None if copy.shell else stack.enter_context(tree.open_folder(copy.data))
        writing = _proven_writer(context, done, there, medium)
        pairs = apply_proven(paired(wanted, present), writing, is_right)
        check.all(folder, pairs, context.progress.step, content=job.over, only=only, since=since)
        context.progress.problems += not_read
        _write_above(context, done, there, writing)
    if check.is_content_in_doubt:
        with context.wanted.recorded() as wanted:
            check.all(folder, paired(wanted, context.present(folder)), context.progress.step, content=True)


def write_rights(context: RestoreContext, done: Transfer, there: OpenDestination, check: RestoreCheck) -> None:
    """Give files that run as their owner or have capabilities these rights, if they are what was backed up."""
    if not done.survey.has_privileged:
        return
    progress, writer = context.progress, replace(_writer(context, done), privileges=True)
    wrong = {one.entry_path for one in (*check.problems, *done.damaged)} | there.protected
    rights = RightsWriter(there.folder, writer, progress.tell, context.wanted.above)
    progress.problems += rights.write_all(context.wanted.read(), wrong, progress.step)


def _writer(context: RestoreContext, done: Transfer) -> MetadataWriter:
    """What gives entries their metadata, but no file rights: another one may come in its place at any moment."""
    copy = context.copy
    return MetadataWriter(
        copy.can, copy.is_own, tells=bool(copy.shell), privileges=False, transfers_acls=not done.holds.closed
    )


def _proven_writer(
    context: RestoreContext, done: Transfer, there: OpenDestination, medium: int | None
) -> ProvenMetadataWriter:
    """What gives the entries their metadata. An entry that only lacked that, and was not touched before, is changed.

    `medium` is the copy's tree, if it is open here.
    """
    job, progress, sidecar = context.job, context.progress, context.copy.sidecar
    excluded = delete_surplus.spared(sidecar, job.exclude)
    spared = context.mountpoints | delete_surplus.not_read(sidecar)

    def may_hold(path: bytes, is_folder: bool) -> bool:  # noqa: FBT001 as all such tests of a path
        return path in spared or (excluded is not None and excluded(path, is_folder))

    def on_written(seen: Entry) -> None:
        progress.changed += seen.ctime < there.begun and seen.path not in there.set_id

    return ProvenMetadataWriter(
        folder=there.folder, writer=_writer(context, done), problems=progress.problems, medium=medium,
        hashes=ContentHashes(lambda _: progress.tell()), on_written=on_written, begun=there.begun,
        may_hold=may_hold if job.over else lambda _path, _is_folder: False,
        is_new=not job.over, is_merged=job.over and not job.in_place,
    )  # fmt: skip


def _write_above(
    context: RestoreContext, done: Transfer, there: OpenDestination, writing: ProvenMetadataWriter
) -> None:
    """Folders that had to be made on the way to the wanted path are as they were: by the medium, then by the manifest.

    The manifest has not all ACLs and attributes where the medium could hold them and an older version made it, or
    where they are long, and without an ACL the group would get the rights of its mask. Then both are needed.
    """
    wanted = [one for one in context.wanted.above if one.entry.path in there.made and one.entry.path != ROOT]
    held = itertools.takewhile(lambda one: not is_aside(one), wanted)
    chain = [one.entry.path for one in held]
    if chain and not done.holds.closed and not all(map(knows_all, wanted)):
        try:
            transfer.write_folder_metadata(context, done, there.folder, chain)
        except OSError as error:
            why = error.strerror or "its metadata could not be restored"
            context.progress.problems.append(Problem.at(chain[-1], why))
    below, inode = context.wanted.top, writing.alone.get(context.wanted.top, 0)
    with closing(tree.ParentOpener(there.folder)) as opener:
        for one in wanted[::-1]:  # nothing else is in them: they were made for it
            inode = writing.write(opener, one, {below.rpartition(b"/")[2]: inode})
            below = one.entry.path
