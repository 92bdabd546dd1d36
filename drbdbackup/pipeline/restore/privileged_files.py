"""Gives files rights over those who start them: setuid bits, and capabilities. Last of all, when contents are known.

Whoever owns a folder can put a file of his own in the place of any in it, also between a look and a chmod(2). So a
file with such rights is made anew: what gets the rights is a file that nobody else has ever had open, with the content
that the manifest says. Nothing here gives rights to what a name leads to. It is made where only root may enter: once
chown(2) gave it to its owner, he could write to it, and the rights come after that. What was in a folder that not
everybody may enter is made in no other: who exchanged that for his own would have a program of root's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from secrets import token_hex
from stat import S_IMODE, S_ISREG

from drbdbackup import open_flags
from drbdbackup.errors import Damaged
from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import inode_and_hash, largest
from drbdbackup.pipeline.files.content import copy_content
from drbdbackup.pipeline.files.metadata import attributes, own
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.pipeline.restore.apply_metadata import MetadataWriter, gives_rights

_ENTER, _OF_GROUP, _OF_OTHERS = 0o001, 0o070, 0o077
DRAFT = b"draft-" + token_hex(8).encode()  # a folder of root's that somebody puts there has no such file to lose


class RightsWriter:
    """Gives files in the open `folder` their rights. `on_piece` is called while a file is copied."""

    def __init__(
        self, folder: int, writer: MetadataWriter, on_piece: Callable[[], None], above: Iterable[Recorded] = ()
    ) -> None:
        """Nothing happens before `write_all`. `above` are the folders that all of it is in, from the root on."""
        self._folder = folder
        self._closed: list[Entry] = []
        for one in above:
            self._enter(one.entry)
        self._writer = writer
        self._on_piece = on_piece
        self._first_names: dict[tuple[int, str], tuple[bytes, int]] = {}

    def write_all(
        self, wanted: Iterable[Recorded], wrong: Collection[bytes], on_entry: Callable[[], None]
    ) -> list[Problem]:
        """Give all of these that have rights what they have, but for the `wrong` ones; what could not be given."""
        problems: list[Problem] = []
        with closing(ParentOpener(self._folder)) as opener:
            for one in wanted:
                on_entry()
                self._enter(one.entry)
                if gives_rights(one) and one.entry.path not in wrong:
                    try:
                        problems += (Problem.at(one.entry.path, why) for why in self._rewritten(opener, one))
                    except OSError as error:
                        why = error.strerror or "its metadata could not be restored"
                        problems.append(Problem.at(one.entry.path, why))
                    except Damaged as error:
                        problems.append(Problem.at(one.entry.path, error.message))
        return problems

    def _enter(self, entry: Entry) -> None:
        """Note the folders that it was in and not everybody could enter. The root is what whoever restores says."""
        while self._closed and not entry.path.startswith(self._closed[-1].path + b"/"):
            self._closed.pop()
        if entry.kind == b"d" and entry.path != ROOT and not entry.mode & _ENTER:
            self._closed.append(entry)

    def _rewritten(self, opener: ParentOpener, one: Recorded) -> Iterable[str]:
        above, name = opener.parent(one.entry.path)
        opened = dict(opener.folders())
        for entry in self._closed:
            if entry.path in opened and is_more_open(os.fstat(opened[entry.path]), entry):
                folder = os.fsdecode(entry.path)
                return (f"was in {folder!r}, which is open to others by now: it does not get its owner and mode",)
        seen = os.fstat(above)
        try:
            with closed_folder(above) as closed:
                why = () if self._is_joined(closed, one) else self._made(above, name, closed, one)
                if why is not None:
                    os.rename(DRAFT, name, src_dir_fd=closed, dst_dir_fd=above)
        finally:
            os.utime(above, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        return ("has another content than was backed up",) if why is None else why

    def _made(self, above: int, name: bytes, closed: int, one: Recorded) -> Iterable[str] | None:
        """Make it anew in the `closed` folder; what it lacks then, None if the content is another one."""
        source = os.open(name, open_flags.READ, dir_fd=above)
        try:
            seen = os.fstat(source)
            if not S_ISREG(seen.st_mode) or seen.st_size > largest(one):
                return None
            target = os.open(DRAFT, open_flags.CREATE, 0o600, dir_fd=closed)
            try:
                if copy_content(source, target, seen, lambda *_: self._on_piece()) != one.hash:
                    return None
                for attribute, value in own(attributes(source)).items():
                    with suppress(OSError):  # if it should have it, that is said below
                        os.setxattr(target, attribute, value)
                written = self._writer.write(target, one, one.entry, is_other=True)
                made = os.fstat(target).st_ino
            finally:
                os.close(target)
        finally:
            os.close(source)
        if one.entry.nlink > 1:
            self._first_names.setdefault(inode_and_hash(one), (one.entry.path, made))
        return (*written.lost, *written.of_medium)

    def _is_joined(self, closed: int, one: Recorded) -> bool:
        """Whether it has become one more name of a file that was made before, and is still what that was called."""
        first, made = self._first_names.get(inode_and_hash(one), (b"", 0))
        if one.entry.nlink == 1 or not first:
            return False
        with closing(ParentOpener(self._folder)) as other, suppress(OSError):
            folder, leader = other.parent(first)
            os.link(leader, DRAFT, src_dir_fd=folder, dst_dir_fd=closed, follow_symlinks=False)
            if os.stat(DRAFT, dir_fd=closed, follow_symlinks=False).st_ino == made:
                return True
            os.unlink(DRAFT, dir_fd=closed)
        return False


def is_more_open(seen: os.stat_result, entry: Entry) -> bool:
    """Whether somebody may enter, or owns, a folder who could not when it was backed up."""
    is_his = seen.st_uid in (os.geteuid(), entry.uid)
    is_its_group = seen.st_gid in (os.getegid(), entry.gid) or not seen.st_mode & _OF_GROUP
    return not (is_his and is_its_group) or bool(seen.st_mode & _OF_OTHERS & ~entry.mode)


@contextmanager
def closed_folder(above: int) -> Iterator[int]:
    """A folder in `above` that nobody but us may enter, open, for as long as it is needed. Raises OSError.

    Who owns `above` can put another one in its place before it is open: one of his is refused. Its name is that of
    other drafts: what a kill leaves of it is nothing that the snapshot has, and the next restore in place removes it.
    """
    name = b".drbdbackup-" + token_hex(8).encode()
    os.mkdir(name, 0o700, dir_fd=above)
    try:
        folder = os.open(name, open_flags.FOLDER, dir_fd=above)
        try:
            seen = os.fstat(folder)
            if seen.st_uid != os.geteuid() or S_IMODE(seen.st_mode) & 0o077:
                raise OSError(errno.EPERM, "no folder that only root may enter can be made beside it")
            try:
                yield folder
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(DRAFT, dir_fd=folder)
        finally:
            os.close(folder)
    finally:
        with suppress(OSError):
            os.rmdir(name, dir_fd=above)
