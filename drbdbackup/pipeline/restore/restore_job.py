"""The caged job that restores a copy, or looks what that would do.

It writes below one checked folder only, never to a medium; it deletes only in place, and it compares what it has
restored with the manifest before it says that it is done.
"""

from __future__ import annotations

import os

from drbdbackup.errors import Damaged, NothingFound, ToolError
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy, open_copy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.restore import delete_surplus, open_destination, transfer, wanted_entries, write_metadata
from drbdbackup.pipeline.restore.check import RestoreCheck
from drbdbackup.pipeline.restore.delete_surplus import Surplus
from drbdbackup.pipeline.restore.look_before import look
from drbdbackup.pipeline.restore.restore_context import RestoreContext, RestoreProgress
from drbdbackup.pipeline.restore.restore_protocol import (
    LookJob,
    ReadyToReplace,
    Replace,
    RestoreJob,
    RestoreLook,
    RestoreResult,
)
from drbdbackup.pipeline.restore.transfer import Transfer
from drbdbackup.pipeline.volume import destination
from drbdbackup.scan import raise_open_files
from drbdbackup.targets.sidecar import KEPT_PROBLEMS

_ANOTHER = (
    "Another node may have pruned it. Restore another one (`drbdbackup list`), into another folder or with --merge, or "
    "--resume. `drbdbackup pin` keeps a copy from being pruned by any node."
)


def do(job: LookJob | RestoreJob, channel: Channel) -> RestoreLook | RestoreResult:
    """What a restore would restore and delete, or the restore itself."""
    os.umask(0o077)
    raise_open_files()
    with open_copy(job, channel) as copy:
        mounted = destination.mountpoints(job.destination)
        wanted = wanted_entries.find(copy.manifest, os.fsencode(job.path), copy.sidecar.snapshot)
        others = mounted | delete_surplus.left_out(copy.sidecar)
        context = RestoreContext(job, copy, wanted, others, RestoreProgress(channel))
        if isinstance(job, LookJob):
            return look(context, mounted)
        listed = None if context.restores_plain_files else transfer.listed(context, mounted)
        try:
            result = _restore(context, listed)
        except (OSError, ToolError):
            _check_still_there(copy)
            raise
        if result.problem_count:
            _check_still_there(copy)
        return result


def _check_still_there(copy: OpenCopy) -> None:
    """Called before a file or a disk is blamed, or something is deleted: another node may have pruned the copy, since a
    node knows of its own restores only. Raises NothingFound, TargetError.
    """
    if copy.shell:
        return
    try:
        copy.check_still_there()
    except NothingFound as error:
        raise NothingFound(error.message, _ANOTHER) from None
    except Damaged:
        return  # what is restored says of each file what is wrong with it


def _restore(context: RestoreContext, listed: Transfer | None) -> RestoreResult:
    """Restore what is wanted; `listed` is None where that is listed while plain files are restored."""
    job, progress, deleted = context.job, context.progress, Surplus()
    check = RestoreCheck(context.copy.can, progress.tell)
    with destination.opened(job.destination, caged=job.here.caged) as folder:
        if job.in_place:
            tree.check_way(folder, context.wanted.top)
            progress.channel.send(ReadyToReplace())
            progress.channel.receive(Replace)
        has_privileged = listed is not None and listed.survey.has_privileged
        there = open_destination.prepare(context, folder, has_privileged=has_privileged)
        if listed is None:
            listed = transfer.restored_and_listed(context, folder, check)
        transfer.run(context, listed, there, check, deleted)
        write_metadata.make_missing(context, listed, there)
        if job.in_place:  # before a folder is given to somebody: what is in it may be a secret of root's
            _check_still_there(context.copy)  # else what the snapshot lacks is deleted, and little or nothing came
            progress.problems += delete_surplus.delete(folder, context.surplus(folder), deleted, progress.step)
        progress.done = 0
        write_metadata.write_and_check(context, listed, there, check)
        write_metadata.write_rights(context, listed, there, check)
    problems = _all_problems(progress, listed, check)
    return RestoreResult(
        entries=listed.survey.entries, files=listed.survey.files, bytes=progress.copied, deleted=deleted.entries,
        changed=progress.changed, problem_count=len(problems),
        problems=tuple(Problem(one.path, _with_advice(one.reason)) for one in problems[:KEPT_PROBLEMS]),
    )  # fmt: skip


def _all_problems(progress: RestoreProgress, listed: Transfer, check: RestoreCheck) -> list[Problem]:
    """Each once; that a damaged file, which was not read, is not as in the manifest is said already."""
    damaged = {one.path for one in listed.damaged}
    compared = [one for one in check.problems if one.path not in damaged]
    return list(dict.fromkeys([*progress.problems, *listed.damaged, *compared]))


def _with_advice(why: str) -> str:
    """Root may do everything but change what `chattr` protects."""
    if "Operation not permitted" not in why:
        return why
    if why.startswith("owner"):
        return f"{why} (does the file system there keep owners? If so, see `lsattr`, and `chattr -ia`)"
    return f"{why} (is it immutable? See `lsattr`, and `chattr -ia`)"
