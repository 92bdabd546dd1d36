"""Gives entries of a restored tree their metadata, each only once it is known to be the one that was backed up.

Whoever owns a folder of the destination can exchange what is in it for a file or a folder of root's beside it, at any
moment, and then the name that he owned by the manifest leads to that. So an entry is opened without being followed, and
gets owner, mode, ACLs and the rest by that descriptor: a file if it has the content that was backed up, a symlink if it
leads where it did, a folder last, and only if nobody else has anything in it but what was found to be right before.
FIFOs, sockets and devices have nothing to look at: they are made anew. Nothing here gives anything to what a name leads
to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from stat import S_IFMT, S_IMODE, S_ISDIR, S_ISLNK

from msgspec import Struct, field
from msgspec.structs import replace

from drbdbackup import open_flags
from drbdbackup.errors import Damaged
from drbdbackup.manifest import CHANGED, NO_ATTRIBUTES, ROOT, Entry, Recorded, known_attributes
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import KINDS, is_aside, largest, shape
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.metadata import attributes
from drbdbackup.pipeline.files.tree import ParentOpener, entry_of, path_of
from drbdbackup.pipeline.restore.apply_metadata import (
    MetadataWriter,
    Pair,
    file_type,
    is_other,
    noting,
)
from drbdbackup.pipeline.restore.privileged_files import DRAFT, closed_folder, is_more_open

Proven = dict[bytes, int]  # the inode of each entry of a folder that was found to be right, or made so
_OF_OTHERS, _OWNERS, _OPEN = 0o077, 0o700, 0o005
_EMPTY = b"psbc"  # types of entries with no content that could be looked at
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class ProvenMetadataWriter(Struct, frozen=True, kw_only=True):
    """Writes metadata in the tree in the open `folder`; what could not be given is added to the `problems`.

    `medium` is the tree that it came from, if it is open here: long attributes are nowhere else. `may_hold` says of
    what is not in the manifest whether a folder may have it all the same: it is left out of backups. What has changed
    since `begun` came with this restore. `is_new`: so did all of it, and nobody else could enter. `is_merged`: a folder
    may hold whatever it holds where everybody can read that already. `alone` gets what became of an entry whose folder
    is not given here. `hashes` are those of files in the tree, `on_written` gets what was there of each entry that
    was given something.
    """

    folder: int
    writer: MetadataWriter
    problems: list[Problem]
    medium: int | None = None
    hashes: ContentHashes = field(default_factory=ContentHashes)
    begun: int = 1 << 63
    is_new: bool = False
    is_merged: bool = False
    alone: Proven = field(default_factory=dict)
    may_hold: Callable[[bytes, bool], bool] = lambda _path, _is_folder: False
    on_written: Callable[[Entry], None] = lambda _: None

    def write(self, opener: ParentOpener, one: Recorded, inside: Proven | None = None, owner: int | None = None) -> int:
        """Give an entry its metadata; a folder after all that is `inside` it.

        Returns the entry's inode, 0 if it is wrong. A folder of which the inside is not known must have its owner and
        mode already. `owner` is who gets the folder above: then the entry is proven even if it lacks nothing, unless it
        belongs to that owner.
        """
        path = one.entry.path
        with noting(self.problems, path):
            if path == ROOT:
                return self._write(self.folder, one, _no_proof, owner)
            above, name = opener.parent(path)
            is_folder = one.entry.kind == b"d"
            handle = os.open(name, open_flags.FOLDER if is_folder else open_flags.PATH, dir_fd=above)
            try:
                if is_folder:
                    return self._write(handle, one, lambda *seen: self._prove_folder(handle, one, inside, *seen), owner)
                if one.entry.kind in _EMPTY and self._is_to_be_made(handle, one, owner):
                    return self._made_anew(above, name, one)
                return self._write(handle, one, lambda *seen: self._prove(handle, one, *seen), owner)
            finally:
                os.close(handle)
        return 0

    def shut(self, opener: ParentOpener, one: Recorded) -> bool:
        """Whether a folder had to become root's alone: it is open to others who should not see what is in it.

        What is in it is given its mode before the folder is, and somebody may have put one of his own in its place.
        """
        with noting(self.problems, one.entry.path), suppress(FileNotFoundError, NotADirectoryError):
            folder, _ = opener.parent(one.entry.path + b"/.")
            if not is_more_open(os.fstat(folder), one.entry):
                return False
            os.fchown(folder, os.geteuid(), os.getegid())
            os.fchmod(folder, _OWNERS)
            return True
        return False

    def _write(
        self, handle: int, one: Recorded, prove: Callable[[os.stat_result, Entry], None], owner: int | None
    ) -> int:
        """`prove` raises Damaged if what is open may not be the entry."""
        seen = os.fstat(handle)
        if S_IFMT(seen.st_mode) != file_type(one):
            raise Damaged(f"is not the {KINDS[one.entry.kind]} that it was")
        there = entry_of(seen, one.entry.path, one.entry.link)
        entry = self.writer.for_now(_wanted(one, there))
        written = self.writer.write(
            handle, one, entry, is_other=is_other(entry, there), prove=lambda: prove(seen, entry),
            on_medium=lambda: self._on_medium(one),
        )  # fmt: skip
        self.problems.extend(Problem.at(one.entry.path, why) for why in (*written.lost, *written.of_medium))
        if written.is_changed:
            self.on_written(there)
        elif owner is not None and not _is_his(seen, owner):
            prove(seen, entry)
        return seen.st_ino

    def _is_to_be_made(self, handle: int, one: Recorded, owner: int | None) -> bool:
        """Whether an entry that nothing is known of is not surely its owner's already, or lacks something."""
        seen = os.fstat(handle)
        if S_IFMT(seen.st_mode) != file_type(one):
            return False
        there = entry_of(seen, one.entry.path, b"")
        is_his = _is_his(seen, one.entry.uid)
        return (is_other(one.entry, there) and not is_his) or (owner is not None and not is_his)

    def _made_anew(self, above: int, name: bytes, one: Recorded) -> int:
        """Put a new one in its place, made where only root may enter."""
        with closed_folder(above) as closed:
            os.mknod(DRAFT, file_type(one) | 0o600, one.entry.rdev, dir_fd=closed)
            handle = os.open(DRAFT, open_flags.PATH, dir_fd=closed)
            try:
                made = self._write(handle, one, _no_proof, None)
                os.rename(DRAFT, name, src_dir_fd=closed, dst_dir_fd=above)
            finally:
                os.close(handle)
        return made

    def _on_medium(self, one: Recorded) -> dict[bytes, bytes] | None:
        """The attributes that it has there, None if they cannot be read."""
        if self.medium is None or is_aside(one):
            return None
        with suppress(OSError), closing(ParentOpener(self.medium)) as opener:
            at = path_of(self.medium) if one.entry.path == ROOT else path_of(*opener.parent(one.entry.path))
            return attributes(at)
        return None

    def _prove(self, handle: int, one: Recorded, seen: os.stat_result, entry: Entry) -> None:
        """Raises Damaged for what is not what was backed up, whatever it is called by now."""
        if seen.st_nlink > one.entry.nlink and not _is_his(seen, entry.uid):
            raise Damaged("has further names, which were not backed up, so it does not get its owner and mode")
        if entry.kind == b"f":
            if not one.hash:
                raise Damaged("has no hash in the manifest, so its content cannot be checked")
            reader = os.open(f"/proc/self/fd/{handle}", _READ)
            try:
                if self.hashes.of_open(reader, names=seen.st_nlink, most=largest(one) + 1) != one.hash:
                    raise Damaged("has another content than was backed up")
            finally:
                os.close(reader)
        elif entry.kind == b"l" and os.readlink(b"", dir_fd=handle) != entry.link:
            raise Damaged("is a symlink to something else")
        elif entry.kind in b"bc" and seen.st_rdev != entry.rdev:
            raise Damaged("is another device")

    def _prove_folder(
        self, handle: int, one: Recorded, inside: Proven | None, seen: os.stat_result, entry: Entry
    ) -> None:
        """Raises Damaged for a folder in which somebody else than its owner-to-be has what was not backed up.

        It would be open to him then.
        """
        is_right = (seen.st_uid, seen.st_gid, S_IMODE(seen.st_mode)) == (entry.uid, entry.gid, entry.mode)
        if _is_his(seen, entry.uid) or (is_right and inside is None):
            return
        if inside is None:
            raise Damaged("was replaced by somebody else meanwhile, and does not get its owner and mode")
        for name in map(os.fsencode, os.listdir(handle)):
            try:
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except FileNotFoundError:
                continue
            is_ours = name in inside and (self.is_new or inside[name] == found.st_ino or self._is_shut(found))
            if is_ours or _is_his(found, entry.uid):
                continue
            is_spared = self.is_merged and seen.st_mode & _OPEN == _OPEN
            is_spared = is_spared or self.may_hold(one.entry.path + b"/" + name, S_ISDIR(found.st_mode))
            if name in inside or not is_spared:
                what = os.fsdecode(name)
                raise Damaged(f"holds {what!r}, which was not backed up, so it does not get its owner and mode")


    def _is_shut(self, found: os.stat_result) -> bool:
        """Whether it is damaged, but came with this restore and is root's alone: who gets the folder cannot read it."""
        return found.st_ctime_ns >= self.begun and (S_ISLNK(found.st_mode) or not found.st_mode & _OF_OTHERS)


def _is_his(seen: os.stat_result, uid: int) -> bool:
    """Whether something belongs to its owner-to-be already, who is not root."""
    return seen.st_uid == uid != os.geteuid()


def _no_proof(*_: object) -> None:
    """Where nobody else can have put it."""


class _Waiting(Struct):
    """A folder, which gets its metadata when all that is in it has."""

    one: Recorded
    inside: Proven | None


def apply_proven(
    pairs: Iterable[Pair], to: ProvenMetadataWriter, spares: Callable[[Recorded, Entry], bool] = lambda *_: False
) -> Iterator[Pair]:
    """Give what is present the metadata that the manifest says, where it has another.

    It came from the medium, and whoever can write to that may have made a program of anybody's run as root. What it
    `spares` gets nothing. The `pairs` are passed on.
    """
    waiting: list[_Waiting] = []

    def folder_of(one: Recorded) -> _Waiting | None:
        """The folder that it is in, if that is going to be given to somebody."""
        above = one.entry.path.rpartition(b"/")[0] or ROOT
        is_in = bool(waiting) and waiting[-1].one.entry.path == above and one.entry.path != ROOT
        return waiting[-1] if is_in and waiting[-1].inside is not None else None

    def note(one: Recorded, inode: int) -> None:
        folder = folder_of(one)
        inside, name = (folder.inside, one.entry.path.rpartition(b"/")[2]) if folder else (to.alone, one.entry.path)
        if inside is not None:
            inside[name] = inode

    def write(opener: ParentOpener, one: Recorded, inside: Proven | None = None) -> None:
        folder = folder_of(one)
        note(one, to.write(opener, one, inside, folder.one.entry.uid if folder and not to.is_new else None))

    with closing(ParentOpener(to.folder)) as opener:
        for one, there in pairs:
            path = one.entry.path if one is not None else there.path if there is not None else b""
            while waiting and not _is_in(path, waiting[-1].one.entry.path):
                last = waiting.pop()
                write(opener, last.one, last.inside)
            if one is not None and folder_of(one):
                note(one, 0)
            if one is not None and there is not None and not shape(one, there):
                if one.entry.kind == b"d":
                    is_shut = path != ROOT and not to.is_new and to.shut(opener, one)
                    is_tracked = is_shut or _will_change(one, there) or (waiting and waiting[-1].inside is not None)
                    waiting.append(_Waiting(one, {} if is_tracked else None))
                elif not spares(one, there):
                    write(opener, one)
                else:  # nobody else can have been there yet
                    note(one, there.inode)
            yield one, there
        while waiting:
            last = waiting.pop()
            write(opener, last.one, last.inside)


def _wanted(one: Recorded, there: Entry) -> Entry:
    """The entry as the manifest says. Of one that changed under its copy it has the time of before."""
    return replace(one.entry, mtime=there.mtime) if one.flag.lower() == CHANGED else one.entry


def _is_in(path: bytes, folder: bytes) -> bool:
    return folder == ROOT or path.startswith(folder + b"/")


def _will_change(one: Recorded, there: Entry) -> bool:
    """Whether a folder will get another owner, mode, or ACL perhaps."""
    entry = one.entry
    if (entry.uid, entry.gid, entry.mode) != (there.uid, there.gid, there.mode):
        return True
    try:
        return known_attributes(one.attributes) is not NO_ATTRIBUTES
    except Damaged:
        return True
