"""What verify and scrub share: a copy that is read again, and what was found wrong with it.

It only reads: nothing on a medium is repaired or removed here.
"""

from __future__ import annotations

import fnmatch
import os
import random
import re
from collections.abc import Callable

from msgspec import Struct, field

from drbdbackup.manifest import CHANGED, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.copies.open_copy import OpenCopy
from drbdbackup.pipeline.files.compare import attributes_differ, metadata, shape, wrong_size
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.metadata import attributes, own
from drbdbackup.pipeline.files.tree import open_folder, path_of
from drbdbackup.pipeline.progress import Progress
from drbdbackup.pipeline.verify.verify_protocol import Extras
from drbdbackup.targets.layout import stored_at
from drbdbackup.targets.sidecar import KEPT_PROBLEMS


class Verification(Struct, kw_only=True):
    """A verify under way: `files` and `size` (bytes) that were read and found right, `count` of all problems.

    `wanted` files are in the manifest, `read` were drawn; `spare` judges one that was not, each as likely as the next.
    `names` has the first name of each file that had several, by the inode that it had in the source. `ignore` matches
    the names of what a NAS adds by itself; for `added` and `ignored` see `Extras`. `unknown` entries have attributes of
    which the manifest says nothing.
    """

    copy: OpenCopy
    share: float
    channel: Channel
    seen: int = 0
    wanted: int = 0
    read: int = 0
    files: int = 0
    size: int = 0
    count: int = 0
    problems: list[Problem] = field(default_factory=list)
    spare: Callable[[], None] | None = None
    names: dict[int, Entry] = field(default_factory=dict)
    ignore: re.Pattern[str] | None = None
    added: list[bytes] = field(default_factory=list)
    added_count: int = 0
    ignored: int = 0
    unknown: int = 0
    hashes: ContentHashes = field(default_factory=ContentHashes)

    def __post_init__(self) -> None:
        """What is judged is what the medium gives."""
        self.hashes = ContentHashes(lambda _: self.tell(), from_medium=True)

    def tell(self) -> None:
        """Say how far it is, and that it moves."""
        self.channel.send_progress(Progress(self.seen, self.size, self.size))

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

    @property
    def extras(self) -> Extras:
        """What lies in the copy and was not backed up."""
        return Extras(tuple(map(os.fsdecode, self.added)), self.added_count, self.ignored)

    def add(self, path: bytes) -> None:
        """Something is there that is not in the manifest: that makes nothing worse of what is."""
        if self.ignore is not None and self.ignore.match(os.fsdecode(path.rpartition(b"/")[2])):
            self.ignored += 1
            return
        self.added_count += 1
        if len(self.added) < KEPT_PROBLEMS:
            self.added.append(path)

    def object(self, path: bytes, why: str) -> None:
        """Something is not as it was."""
        self.count += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(Problem.at(path, why))


def names_like(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """What matches names that fit one of these patterns (`*`, `?`, `[...]`), None for no patterns."""
    if not patterns:
        return None
    return re.compile("|".join(map(fnmatch.translate, patterns)))


def judge_own(verifying: Verification, one: Recorded, there: Entry, folder: int, name: bytes) -> str:
    """What is wrong with an entry's own: its type, size, owner, mode, time or attributes. Raises OSError, Damaged.

    Of a type that the medium does not hold nothing is restored from there, whatever lies there.
    """
    can = verifying.copy.can
    if one.entry.kind not in can.kinds:
        return ""
    why = shape(one, there) or metadata(one, there, can)
    if why or one.flag.lower() == CHANGED or not (can.acls or can.xattrs):
        return why
    found = own(attributes(path_of(folder, name)))
    verifying.unknown += bool(found) and not one.attributes
    return attributes_differ(one, found, can)


def judge_aside(verifying: Verification, one: Recorded) -> None:
    """Of what the medium has no name for, only files have something on it."""
    if one.entry.kind != b"f":
        return
    why, path = "", stored_at(verifying.copy.beside, one.entry.path)
    try:
        with open_folder(os.path.dirname(path)) as folder:
            there = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
            name = os.fsencode(os.path.basename(path))
            why = wrong_size(one, there.st_size)
            if not why and verifying.draws(lambda: judge_aside(verifying, one)):
                why = content(verifying, folder, name, one, there.st_size)
    except FileNotFoundError:
        why = "is missing among what is set aside because the medium cannot hold its name"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    if why:
        verifying.object(one.entry.path, why)


def content(verifying: Verification, folder: int, name: bytes, one: Recorded, size: int) -> str:
    """Read a file, once if it had several names; what is wrong with it. Raises OSError."""
    found = verifying.hashes.of(folder, name, names=one.entry.nlink, most=size + 1)
    if found != one.hash:
        return "has another content than was backed up"
    verifying.files += 1
    verifying.size += size
    return ""
