"""The caged job that reads a copy again and holds it against its manifest. It changes nothing on the medium.

Every entry must be there and nothing else; every file that is read must have the hash that rsync computed when it was
copied, judged by what the medium gives and not by what memory still holds of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from drbdbackup import manifest
from drbdbackup.manifest import CHANGED, Entry, Recorded
from drbdbackup.pipeline.aside import stored_at
from drbdbackup.pipeline.caged import Channel
from drbdbackup.pipeline.checking import content_hash
from drbdbackup.pipeline.compare import KINDS, holdable, is_aside, metadata, paired, recorded_below, shape
from drbdbackup.pipeline.lying import Lying, lying
from drbdbackup.pipeline.trees import Descent, entries, open_folder
from drbdbackup.scan import Problem, raise_open_files

KEPT_PROBLEMS = 1000
_MANY_NAMES = 50_000  # a further name of one that a file system can hardly give more to may have been copied


@dataclass(slots=True)
class Verifying:
    """A verify under way: `files` and `size` (bytes) that were read and found right, `count` of all problems.

    `wanted` files are in the manifest, `read` were drawn; `spare` judges one that was not, each as likely as the next.
    `names` has the first name of each file that had several, by the inode that it had in the source.
    """

    copy: Lying
    share: float
    channel: Channel
    seen: int = 0
    wanted: int = 0
    read: int = 0
    files: int = 0
    size: int = 0
    count: int = 0
    problems: list[tuple[bytes, str]] = field(default_factory=list)
    spare: Callable[[], None] | None = None
    names: dict[int, Entry] = field(default_factory=dict)

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.progress(entries=self.seen, done_bytes=self.size, copied_bytes=self.size)

    def draws(self, again: Callable[[], None]) -> bool:
        """Whether this file is one of the sample; `again` judges it, should it turn out to be the only one."""
        if self.share >= 1 or random.random() < self.share:  # noqa: S311  a sample, not a secret
            self.read += 1
            return True
        if random.randrange(self.wanted) == 0:  # noqa: S311
            self.spare = again
        return False

    def draw_spare(self) -> None:
        """A small sample of few files may have drawn none: read one all the same."""
        if not self.read and self.spare is not None:
            self.share = 1.0
            self.spare()

    def object(self, path: bytes, why: str) -> None:
        """Something is not as it was."""
        self.count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append((path, why))


def do(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Read the copy; `share` of its files, 1.0 for all. What is wrong with it is in the answer, never raised.

    Raises Damaged for a manifest that cannot be trusted, TargetError if the medium goes away, NothingFound if the
    snapshot does.
    """
    raise_open_files()
    with lying(job, channel) as copy:
        verifying = Verifying(copy, job["share"], channel)
        _compare(verifying)
        if verifying.count:
            copy.check_still_there()
    return {
        "wanted": verifying.wanted, "files": verifying.files, "bytes": verifying.size, "problem_count": verifying.count,
        "problems": [[os.fsdecode(path), why] for path, why in verifying.problems],
    }  # fmt: skip


def _compare(verifying: Verifying) -> None:
    unread: set[bytes] = set()

    def not_read(problem: Problem) -> None:
        unread.add(problem.path)
        verifying.object(problem.path, problem.why)

    held = holdable(verifying.copy.can)
    with (
        open_folder(verifying.copy.data) as data, closing(Descent(data)) as descent,
        manifest.reading(verifying.copy.manifest) as lines,
    ):  # fmt: skip
        for one, there in paired(recorded_below(lines, b""), entries(data, b"", not_read)):
            verifying.seen += 1
            verifying.tell()
            verifying.wanted += one is not None and one.entry.kind == b"f"
            if one is None and there is not None:
                verifying.object(there.path, f"was not backed up: a {KINDS[there.kind]} too many")
            elif one is not None and is_aside(one):
                judge_aside(verifying, one)
            elif one is not None and there is not None:
                _judge(verifying, descent, one, there)
            elif one is not None and one.entry.kind in held and not _is_below(one.entry.path, unread):
                verifying.object(one.entry.path, "is not there")
        verifying.draw_spare()


def judge_aside(verifying: Verifying, one: Recorded) -> None:
    """Of what the medium has no name for, only files have something on it."""
    if one.entry.kind != b"f":
        return
    why, path = "", stored_at(verifying.copy.beside, one.entry.path)
    try:
        with open_folder(os.path.dirname(path)) as folder:
            there = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
            name = os.fsencode(os.path.basename(path))
            if verifying.draws(lambda: judge_aside(verifying, one)):
                why = content(verifying, folder, name, one, there.st_size)
    except FileNotFoundError:
        why = "is not there, where what has no name on the medium lies aside"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    if why:
        verifying.object(one.entry.path, why)


def _judge(verifying: Verifying, descent: Descent, one: Recorded, there: Entry) -> None:
    why = shape(one, there) or metadata(one, there, verifying.copy.can) or _lost_name(verifying, one, there)
    if not why and one.entry.kind == b"f" and verifying.draws(lambda: _judge(verifying, descent, one, there)):
        try:
            why = content(verifying, *descent.parent(one.entry.path), one, there.size)
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
    if why:
        verifying.object(one.entry.path, why)


def _lost_name(verifying: Verifying, one: Recorded, there: Entry) -> str:
    """Whether two names of one file have become two files."""
    was = one.entry
    if was.kind != b"f" or was.nlink < 2 or one.flag.lower() == CHANGED or not verifying.copy.can.hard_links:
        return ""
    first = verifying.names.setdefault(was.inode, there)
    if first.inode == there.inode or max(first.nlink, there.nlink) > _MANY_NAMES:
        return ""
    return f"is not the same file as {os.fsdecode(first.path)} any more"


def content(verifying: Verifying, folder: int, name: bytes, one: Recorded, size: int) -> str:
    """Read a file; what is wrong with it. Raises OSError."""
    if content_hash(folder, name, verifying.tell, from_medium=True) != one.hash:
        return "has another content than was backed up"
    verifying.files += 1
    verifying.size += size
    return ""


def _is_below(path: bytes, folders: set[bytes]) -> bool:
    """What lies in a folder that could not be read is not called missing one by one."""
    return bool(folders) and any(path.startswith(folder + b"/") for folder in folders)
