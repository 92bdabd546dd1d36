"""The caged job that reads a copy again and holds it against its manifest. It changes nothing on the medium.

Every entry must be there; an entry beside them is reported, and is no damage. A file that is read must have the hash
that rsync computed when it was copied, judged by what the medium gives and not by what memory still holds of it.
"""

from __future__ import annotations

import os
from contextlib import closing

from drbdbackup import manifest
from drbdbackup.manifest import CHANGED, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import open_copy
from drbdbackup.pipeline.files.compare import is_aside, paired, recorded_below
from drbdbackup.pipeline.files.tree import ParentOpener, entries, open_folder
from drbdbackup.pipeline.target.open_target import room_at
from drbdbackup.pipeline.verify.verification import Verification, content, judge_aside, judge_own, names_like
from drbdbackup.pipeline.verify.verify_protocol import VerifyJob, VerifyResult
from drbdbackup.scan import raise_open_files

_MANY_NAMES = 50_000  # a further name of one that a file system can hardly give more to may have been copied


def do(job: VerifyJob, channel: Channel) -> VerifyResult:
    """Read the copy. What is wrong with it is in the answer, never raised.

    Raises Damaged for a manifest that cannot be trusted, TargetError if the medium goes away, NothingFound if the
    snapshot does.
    """
    raise_open_files()
    with open_copy(job, channel) as copy:
        verifying = Verification(copy=copy, share=job.share, channel=channel, ignore=names_like(job.ignore))
        _compare(verifying)
        if verifying.count:
            copy.check_still_there()
        room = room_at(copy.folder, copy.can) if copy.is_own else None
    return VerifyResult(
        wanted=verifying.wanted, files=verifying.files, bytes=verifying.size, problems=tuple(verifying.problems),
        problem_count=verifying.count, manifest_sha256=copy.sidecar.manifest_sha256,
        sidecar_sha256=copy.sidecar.sha256, extras=verifying.extras, unknown=verifying.unknown,
        room=room,
    )  # fmt: skip


def _compare(verifying: Verification) -> None:
    unread: set[bytes] = set()
    extra = b""  # the last that was not backed up, as the paths of what is in it begin

    def not_read(problem: Problem) -> None:
        path = problem.entry_path
        if extra and (path + b"/").startswith(extra):
            return
        unread.add(path)
        verifying.object(path, problem.reason)

    held = verifying.copy.can.kinds
    with (
        open_folder(verifying.copy.data) as data, closing(ParentOpener(data)) as opener,
        manifest.reading(verifying.copy.manifest) as lines,
    ):  # fmt: skip
        for one, there in paired(recorded_below(lines, b""), entries(data, b"", not_read)):
            verifying.seen += 1
            verifying.tell()
            verifying.wanted += one is not None and one.entry.kind == b"f"
            if one is None and there is not None:
                if verifying.copy.engine is not None:  # came between the walk and the storing: nobody adds to it later
                    continue
                if not (extra and there.path.startswith(extra)):
                    verifying.add(there.path)
                    extra = there.path + b"/"
            elif one is not None and is_aside(one):
                judge_aside(verifying, one)
            elif one is not None and there is not None:
                _judge(verifying, opener, one, there)
            elif one is not None and one.entry.kind in held and not _is_below(one.entry.path, unread):
                verifying.object(one.entry.path, "is not there")
        verifying.draw_spare()


def _judge(verifying: Verification, opener: ParentOpener, one: Recorded, there: Entry) -> None:
    try:
        place = opener.parent(one.entry.path)
        why = judge_own(verifying, one, there, *place) or _lost_name(verifying, one, there)
        if not why and one.entry.kind == b"f" and verifying.draws(lambda: _judge(verifying, opener, one, there)):
            why = content(verifying, *place, one, there.size)
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    if why:
        verifying.object(one.entry.path, why)


def _lost_name(verifying: Verification, one: Recorded, there: Entry) -> str:
    """Whether two names of one file have become two files."""
    was = one.entry
    if was.kind != b"f" or was.nlink < 2 or one.flag.lower() == CHANGED or not verifying.copy.can.hard_links:
        return ""
    first = verifying.names.setdefault(was.inode, there)
    if first.inode == there.inode or max(first.nlink, there.nlink) > _MANY_NAMES:
        return ""
    return f"is not the same file as {os.fsdecode(first.path)} any more"


def _is_below(path: bytes, folders: set[bytes]) -> bool:
    """What lies in a folder that could not be read is not called missing one by one."""
    return bool(folders) and any(path.startswith(folder + b"/") for folder in folders)
