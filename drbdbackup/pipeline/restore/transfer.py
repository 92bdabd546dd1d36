"""Transfers what the medium holds to the destination: what it will be is listed first, and rsync gets the list."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import proc
from drbdbackup.errors import TargetFull
from drbdbackup.manifest import Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.rsync_run import AROUND_ENTRY, follow, peer_errors_checked
from drbdbackup.pipeline.restore import copy_sparse_files, delete_surplus, unchanged_files
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.delete_surplus import Surplus
from drbdbackup.pipeline.restore.full_destination import destination_errors
from drbdbackup.pipeline.restore.open_destination import OpenDestination
from drbdbackup.pipeline.restore.plain_files import PlainFiles
from drbdbackup.pipeline.restore.restore_context import RestoreContext
from drbdbackup.pipeline.restore.survey import Survey, survey
from drbdbackup.pipeline.restore.transfer_list import TransferList, ends
from drbdbackup.pipeline.volume import destination
from drbdbackup.tools import rsync


class Transfer(Struct, frozen=True, kw_only=True):
    """What rsync is to transfer: what is in the file `listing`, in those of the `deep` folders, and in `holed` (large
    files with holes), `most` bytes in all. The `damaged` files are on no list.

    `holds` is what it gives. `is_plain_right`: every plain file is there already, with all that it should have, and
    nothing else. `knows_root`: what the root folder has is in the manifest only.
    """

    survey: Survey
    listing: str
    deep: tuple[tuple[Recorded, str], ...]
    holed: str
    most: int
    damaged: tuple[Problem, ...]
    holds: rsync.Holds
    is_plain_right: bool = False
    knows_root: bool = False


def listed(context: RestoreContext, mounted: frozenset[bytes]) -> Transfer:
    """Write the lists. Raises as `survey` does; `mounted` are the other file systems in the destination."""
    copy = context.copy
    with ExitStack() as stack:
        data = None if copy.shell else stack.enter_context(tree.open_folder(copy.data))
        listing = stack.enter_context(closing(_new_list(context, data)))
        found = survey(context, mounted, listing.add)
    return _transfer(context, found, listing)


def restored_and_listed(context: RestoreContext, folder: int, check: RestoreCheck) -> Transfer:
    """Restore into the open `folder` what needs no rsync, and write the lists of the rest. Raises DestinationFull."""
    progress = context.progress
    with (
        destination_errors(folder),
        tree.open_folder(context.copy.data) as data,
        closing(_new_list(context, data)) as listing,
        closing(PlainFiles(data, folder, listing, check.add_file, progress.add_copied)) as plain,
    ):
        found = survey(context, add=plain.add)
        plain.finish()
    progress.problems += plain.problems
    progress.done = progress.changed = plain.count
    transfer = _transfer(context, found, listing)
    return replace(transfer, is_plain_right=not plain.has_left, knows_root=plain.knows_root)


def _new_list(context: RestoreContext, data: int | None) -> TransferList:
    copy = context.copy
    return TransferList(context.scratch("listing"), context.wanted.top, copy.can, data, is_own=copy.is_own)


def _transfer(context: RestoreContext, found: Survey, listing: TransferList) -> Transfer:
    copy = context.copy
    context.progress.problems += listing.problems
    # rsync gives metadata to what a name leads to, which somebody may have exchanged: no rights. Only what is noted
    # nowhere but on a medium that cannot be looked at here comes at once.
    holds = replace(copy.holds, closed=not (found.has_unknown and copy.shell))
    return Transfer(
        survey=found, listing=context.scratch("listing"), deep=tuple(listing.deep), holed=listing.holed,
        most=found.most if copy.shell else listing.bytes, damaged=tuple(listing.damaged), holds=holds,
    )  # fmt: skip


def run(
    context: RestoreContext, transfer: Transfer, there: OpenDestination, check: RestoreCheck, deleted: Surplus
) -> None:
    """Clear the way, and let rsync transfer all. Its --force would clear the way of what is not ours to delete.

    What the snapshot does not have goes last, when all is there; only where there is no room for both it goes before.
    """
    in_place = context.job.in_place

    def delete(*, in_the_way: bool) -> bool:
        before, gone = deleted.entries, context.surplus(there.folder, in_the_way=in_the_way)
        context.progress.problems += delete_surplus.delete(there.folder, gone, deleted, context.progress.step)
        return deleted.entries > before

    if in_place:
        delete(in_the_way=True)
    try:
        _run_once(context, transfer, there, check)
    except TargetFull:
        if not in_place or not delete(in_the_way=False):
            raise
        _run_once(context, transfer, there, check)


def _run_once(context: RestoreContext, transfer: Transfer, there: OpenDestination, check: RestoreCheck) -> None:
    """Let rsync transfer what is listed. Where a file can have but one name, each name becomes a file of its own."""
    job, copy, progress, folder, base = context.job, context.copy, context.progress, there.folder, context.wanted.base
    if job.over and not copy.shell:
        unchanged_files.leave_out(transfer.listing, context.wanted, folder, progress.tell)
    holds = transfer.holds
    if transfer.survey.has_unknown and copy.is_own:  # it is nowhere but there
        holds = replace(holds, privileges=True)
    if transfer.survey.has_links and not job.in_place and not destination.takes_links(folder):
        holds = replace(holds, hard_links=False)

    def heard(item: rsync.Item, above: bytes = base) -> None:
        progress.done += 1
        progress.changed += not (item.is_of_mode and (holds.closed or above + item.path in there.set_id))
        progress.copied += item.length if item.is_transferred else 0
        check.add(item, above)

    is_peers, most = bool(copy.shell), transfer.most
    if is_peers:
        most += transfer.survey.entries * AROUND_ENTRY + (destination.used(folder) if job.over else 0)  # is compared
    with destination_errors(folder), peer_errors_checked(folder, transfer.survey.largest_file, is_peers=is_peers):
        with ends(copy, folder, context.wanted.top) as (source, target):
            for command in _commands(context, transfer, source, target, holds):
                notes = follow(command, context.scratch("output"), heard, progress.tell, most, is_peers=is_peers)
                progress.problems += [rsync.problem_of(note, target, base) for note in notes]
        for one, listing in transfer.deep:
            _run_deep(context, transfer, folder, one.entry.path, listing, partial(heard, above=one.entry.path + b"/"))
        if os.path.getsize(transfer.holed):
            with tree.open_folder(copy.data) as data:
                progress.problems += copy_sparse_files.copy_listed(
                    transfer.holed, data, folder, partial(heard, above=b""), progress.tell,
                    has_links=copy.can.hard_links,
                )  # fmt: skip


def _run_deep(
    context: RestoreContext, transfer: Transfer, folder: int, path: bytes, listing: str,
    heard: Callable[[rsync.Item], None],
) -> None:  # fmt: skip
    """Let rsync transfer what is in a folder that is too deep for it to reach from above."""
    if not os.path.getsize(listing):
        return
    progress = context.progress
    try:
        with ends(context.copy, folder, path + b"/.") as (source, target):
            command = rsync.restoring(source, target, transfer.holds, over=context.job.over, listing=listing)
            notes = follow(command, context.scratch("output"), heard, progress.tell, transfer.most)
        progress.problems += [rsync.problem_of(note, target, path + b"/") for note in notes]
    except OSError as error:
        progress.problems.append(Problem.at(path, error.strerror or "could not be restored"))


def _commands(
    context: RestoreContext, transfer: Transfer, source: str, target: str, holds: rsync.Holds
) -> Iterator[proc.Command]:  # fmt: skip
    """What transfers the entries, and what gives the top its metadata."""
    top, shell, rules, over = context.wanted.top, context.copy.shell, "", context.job.over
    if shell and top:
        rules = _written(context.scratch("rules"), rsync.only_below(top.rpartition(b"/")[2]))
    if shell and (top or not context.copy.takes_list):
        yield rsync.restoring_tree(source, target, holds, over=over, rules=rules, shell=shell)
        return
    if os.path.getsize(transfer.listing):
        yield rsync.restoring(source, target, holds, over=over, listing=transfer.listing, shell=shell)
    if not top and not transfer.knows_root and not holds.closed:
        yield rsync.restoring_folder(source, target, holds, shell=shell)


def write_folder_metadata(context: RestoreContext, transfer: Transfer, folder: int, chain: list[bytes]) -> None:
    """Let rsync give these folders, each in the one before it, their metadata, and nothing that is in them.

    Raises OSError.
    """
    copy, holds, first = context.copy, transfer.holds, chain[0]
    names = [path[len(first.rpartition(b"/")[0]) :].lstrip(b"/") for path in chain]
    with ends(copy, folder, first, chain[-1]) as (source, target):
        if copy.shell:
            rules = _written(context.scratch("rules"), rsync.only_folders(names))
            command = rsync.restoring_tree(source, target, holds, over=True, rules=rules, shell=copy.shell)
        else:
            listing = _written(context.scratch("listing"), rsync.listing(names))
            command = rsync.restoring(source, target, holds, over=True, listing=listing)
        output, is_peers = context.scratch("output"), bool(copy.shell)
        notes = follow(command, output, lambda _: None, context.progress.tell, 0, is_peers=is_peers)
    found = [rsync.problem_of(note, target, first[: first.rfind(b"/") + 1]) for note in notes]
    context.progress.problems += [one if one.path else Problem.at(first, one.reason) for one in found]


def _written(file: str, content: bytes) -> str:
    with open(file, "wb") as to:
        to.write(content)
    return file
