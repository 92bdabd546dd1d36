"""Gives a restored tree what the medium could not hold and the manifest kept: owners, modes, ACLs, links, devices.

Works by descriptors, and only on entries that are of the type that the manifest says: a manifest that lies must not
lead to a file outside the tree. Folders come last, because what is done in them changes their times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from secrets import token_hex
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK

from msgspec import Struct
from msgspec.structs import replace

from drbdbackup import open_flags, plain_file
from drbdbackup.errors import Damaged
from drbdbackup.manifest import CHANGED, ROOT, Entry, Recorded, known_attributes
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import (
    KINDS,
    attributes_then,
    inode_and_hash,
    is_aside,
    is_privileged,
    largest,
    odd_time,
    shape,
)
from drbdbackup.pipeline.files.content import copy_content
from drbdbackup.pipeline.files.metadata import SET_ID, attributes, is_acl, own, take_attribute, write_metadata
from drbdbackup.pipeline.files.tree import ParentOpener, entries, path_of
from drbdbackup.targets.abilities import Abilities
from drbdbackup.targets.layout import stored_at

Pair = tuple[Recorded | None, Entry | None]
_NODES = {b"p": S_IFIFO, b"s": S_IFSOCK, b"c": S_IFCHR, b"b": S_IFBLK}


def is_needed(can: Abilities) -> bool:
    """Whether a medium with these abilities leaves anything to be given."""
    return not all((
        can.owners, can.modes, can.acls, can.xattrs, can.symlinks, can.devices, can.fifo, can.hard_links,
        can.nanoseconds, can.any_name, can.case_sensitive,
    ))  # fmt: skip


def has_split_links(folder: int, wanted: Iterable[Recorded]) -> bool:
    """Whether names of one file came back as several below `folder`.

    A share may show an old count of names for seconds after a copy was made (attribute caches), and rsync goes by it.
    """
    seen: dict[tuple[int, str], int] = {}
    with closing(ParentOpener(folder)) as opener:
        for one in wanted:
            if one.entry.kind == b"f" and one.entry.nlink > 1:
                with suppress(OSError):
                    above, name = opener.parent(one.entry.path)
                    inode = _inode(above, name)
                    if seen.setdefault(inode_and_hash(one), inode) != inode:
                        return True
    return False


def is_other(was: Entry, there: Entry) -> bool:
    """Whether owner, mode or time are not what the manifest says."""
    mode = was.kind == b"l" or was.mode == there.mode
    return not mode or (was.uid, was.gid, was.mtime) != (there.uid, there.gid, there.mtime)


def runs_as_owner(one: Recorded) -> bool:
    """Whether a file runs as its owner or group, whoever starts it."""
    return one.entry.kind == b"f" and bool(one.entry.mode & SET_ID)


def gives_rights(one: Recorded) -> bool:
    """Whether a file gives rights to who starts it. What cannot be read of its attributes is named later."""
    if one.entry.kind != b"f":
        return False
    with suppress(Damaged):
        known = known_attributes(one.attributes)
        return runs_as_owner(one) or (known is not None and any(map(is_privileged, known.values)))
    return True


def as_far_as_known(one: Recorded, there: Entry) -> Entry:
    """The entry as the manifest says, with the time that is `there` where its own cannot be, or is of before a change.

    One that changed under its copy has the owner and the mode that it had at the walk.
    """
    is_other_time = one.flag.lower() == CHANGED or odd_time(one, there)
    return replace(one.entry, mtime=there.mtime) if is_other_time else one.entry


class WrittenMetadata(Struct, frozen=True):
    """What came of writing an entry's metadata: `lost` is what of that it could not be given, in words.

    `removed` are the names of attributes that the medium had and the manifest has not, `missing` of those that the
    medium should have, and has not as they were. `is_changed`: it was not as it should be.
    """

    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    is_changed: bool = False

    @property
    def of_medium(self) -> Iterator[str]:
        """What is wrong with the copy, in words."""
        if self.removed:
            yield f"had attributes that its manifest does not have, which are left out: {', '.join(self.removed)}"
        if self.missing:
            yield f"has other attributes than were backed up: {', '.join(self.missing)}"


class MetadataWriter(Struct, frozen=True):
    """Writes the metadata of entries that came from a copy, and takes from them what they must not have.

    `can` is what the copy's medium holds. `is_own`: nobody else writes to it, so what older versions did not note of
    attributes is as it lies there. `tells`: nobody has looked at the medium itself, so what must not have come is
    reported; ACLs only where rsync `transfers_acls`.
    Without `privileges` a file gets nothing that lets it run as somebody else: its content is not known yet.
    """

    can: Abilities
    is_own: bool
    tells: bool = True
    privileges: bool = True
    transfers_acls: bool = True

    def write(
        self, at: bytes | int, one: Recorded, entry: Entry, *, is_other: bool, prove: Callable[[], None] = lambda: None,
        on_medium: Callable[[], Mapping[bytes, bytes] | None] = lambda: None,
    ) -> WrittenMetadata:  # fmt: skip
        """`entry` is what it is to be, `is_other` whether stat shows something else; `at` is a path, or an open entry.

        `prove` is called before anything is changed, and may raise. `on_medium` reads the attributes that the entry has
        there, None if it cannot: of long ones the manifest has no more than the digest. Raises OSError, Damaged.
        """
        entry = self.for_now(entry)
        has = {os.fsdecode(name): value for name, value in attributes(at).items()}
        there, then = own(has), attributes_then(one, self.can)
        if then is None:
            medium = on_medium()
            found = there if medium is None else own(medium)
            wanted = {name: value for name, value in found.items() if self.is_own or not is_privileged(name)}
            surplus = [name for name in there if name not in wanted]
        else:
            found = {**own(on_medium() or {}), **there} if then.digests.keys() - there.keys() else there
            long = {name: found[name] for name in then.digests if name in found and then.are(name, found[name])}
            wanted = then.values | long
            surplus = [name for name in there if name not in wanted]
        missing = tuple(name for name in (then.digests if then else ()) if name not in wanted)
        if not self.privileges and entry.kind == b"f":
            wanted = {name: value for name, value in wanted.items() if not is_privileged(name) or name in there}
        lost = list[str]()
        is_changed = is_other or bool(surplus) or any(has.get(name) != value for name, value in wanted.items())
        if is_changed:
            prove()
        for name in surplus:
            try:
                take_attribute(at, name)
            except OSError as error:
                lost.append(f"{name}: was not backed up, and cannot be removed: {error.strerror}")
        if is_changed:
            lost += write_metadata(at, entry, wanted)
        gone = (name for name in surplus if self.tells and self._is_of_medium(name) and name not in missing)
        return WrittenMetadata(tuple(gone), missing, tuple(lost), is_changed)

    def for_now(self, entry: Entry) -> Entry:
        """The entry, as far as it may be given now."""
        if self.privileges or entry.kind != b"f" or not entry.mode & SET_ID:
            return entry
        return replace(entry, mode=entry.mode & ~SET_ID)

    def _is_of_medium(self, name: str) -> bool:
        """Else it was inherited where the entry was made."""
        return (self.can.acls and self.transfers_acls) if is_acl(name) else self.can.xattrs


@contextmanager
def noting(problems: list[Problem], path: bytes) -> Iterator[None]:
    """What cannot be given to the entry at `path` is added to the `problems`; that it is missing, the check reports."""
    try:
        yield
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(Problem.at(path, error.strerror or "its metadata could not be restored"))
    except Damaged as error:
        problems.append(Problem.at(path, error.message))


class TreeMetadataWriter:
    """One tree, open as `folder`; `problems` says what could not be given, `of_medium` what is wrong with the copy.

    `over`: what is in the way may go, but no folder with something in it.
    """

    def __init__(
        self, folder: int, writer: MetadataWriter, beside: str, *, over: bool, makes_only: bool = False
    ) -> None:
        """Nothing happens before `write_all`; `beside` is the folder that holds what lies aside.

        `makes_only`: what is missing is made, and joined, and gets nothing: others may be in the tree meanwhile, and
        what a name leads to must not get an owner (see `proven_metadata`).
        """
        self.problems: list[Problem] = []
        self.of_medium: list[Problem] = []
        self._folder = folder
        self._writer = writer
        self._can = writer.can
        self._beside = beside
        self._over = over
        self._makes_only = makes_only
        self._first_names: dict[tuple[int, str], bytes] = {}

    def write_all(self, read: Callable[[], Iterator[Recorded]], on_entry: Callable[[], None]) -> None:
        """Give each entry its metadata; `read` reads the manifest's entries anew, and is called twice."""
        for effect in (self._write,) if self._makes_only else (self._write, self._write_folder):
            with closing(ParentOpener(self._folder)) as opener:
                for one in read():
                    on_entry()
                    effect(opener, one)

    def _write(self, opener: ParentOpener, one: Recorded) -> None:
        """Make what is missing; the metadata of all but folders."""
        entry = one.entry
        with noting(self.problems, entry.path):
            if entry.path == ROOT:
                return
            above, name = opener.parent(entry.path)
            if is_aside(one) or entry.kind not in self._can.kinds:
                self._make(above, name, one)
            if entry.kind == b"f" and entry.nlink > 1:
                self._join(above, name, one)
            if entry.kind != b"d" and not self._makes_only:
                self._attribute(above, name, one)

    def _write_folder(self, opener: ParentOpener, one: Recorded) -> None:
        if one.entry.kind == b"d":
            with noting(self.problems, one.entry.path):
                above, name = (self._folder, b".") if one.entry.path == ROOT else opener.parent(one.entry.path)
                self._attribute(above, name, one)

    def _attribute(self, above: int, name: bytes, one: Recorded) -> None:
        """Owner, mode, times, extended attributes."""
        there = os.stat(name, dir_fd=above, follow_symlinks=False)
        if S_IFMT(there.st_mode) != file_type(one):
            self.problems.append(Problem.at(one.entry.path, f"is not the {KINDS[one.entry.kind]} that it was"))
            return
        written = self._writer.write(path_of(above, name), one, one.entry, is_other=True)
        self.problems += (Problem.at(one.entry.path, why) for why in written.lost)
        self.of_medium += (Problem.at(one.entry.path, why) for why in written.of_medium)

    def _make(self, above: int, name: bytes, one: Recorded) -> None:
        """An entry that the medium had no place for: by its type (symlinks, devices, ...) or by its name."""
        there = next(entries(above, name, lambda _: None), None)
        if there is not None and not shape(one, there) and one.entry.kind != b"f":
            return
        if there is not None:
            if not self._over:
                self.problems.append(Problem.at(one.entry.path, "something else is there and stays"))
                return
            take_away = os.rmdir if there.kind == b"d" else os.unlink
            take_away(name, dir_fd=above)
        if one.entry.kind == b"f":
            if one.entry.nlink == 1 or not self._joined_anew(above, name, one):
                self._copy(above, name, one)
        elif one.entry.kind == b"d":
            os.mkdir(name, 0o700, dir_fd=above)
        elif one.entry.kind == b"l":
            os.symlink(one.entry.link, name, dir_fd=above)
        else:
            os.mknod(name, _NODES[one.entry.kind] | 0o600, one.entry.rdev, dir_fd=above)

    def _copy(self, above: int, name: bytes, one: Recorded) -> None:
        """The content that lies aside, as long as it is what was backed up."""
        with plain_file.opened(stored_at(self._beside, one.entry.path), largest(one)) as source:
            target = os.open(name, open_flags.CREATE, 0o600, dir_fd=above)
            try:
                content = copy_content(source.fileno(), target, os.fstat(source.fileno()))
            finally:
                os.close(target)
        if content != one.hash:
            self.problems.append(Problem.at(one.entry.path, "has another content than was backed up"))

    def _joined_anew(self, above: int, name: bytes, one: Recorded) -> bool:
        """Whether a missing entry has become one more name of what came before: its content need not be copied."""
        first = self._first_names.get(inode_and_hash(one), b"")
        if not first:
            return False
        with suppress(OSError), closing(ParentOpener(self._folder)) as other:
            folder, leader = other.parent(first)
            os.link(leader, name, src_dir_fd=folder, dst_dir_fd=above, follow_symlinks=False)
            return True
        return False

    def _join(self, above: int, name: bytes, one: Recorded) -> None:
        """A further name of an inode that came back as a file of its own."""
        first = self._first_names.setdefault(inode_and_hash(one), one.entry.path)
        if first == one.entry.path:
            return
        other = ParentOpener(self._folder)
        draft = b".%s.%s" % (name[:200], token_hex(4).encode())
        try:
            folder, leader = other.parent(first)
            if _inode(folder, leader) == _inode(above, name):
                return
            os.link(leader, draft, src_dir_fd=folder, dst_dir_fd=above, follow_symlinks=False)
            os.rename(draft, name, src_dir_fd=above, dst_dir_fd=above)
        finally:
            other.close()


def _inode(above: int, name: bytes) -> int:
    return os.stat(name, dir_fd=above, follow_symlinks=False).st_ino


def file_type(one: Recorded) -> int:
    """The type of an entry, as stat(2) has it."""
    return {b"f": S_IFREG, b"d": S_IFDIR, b"l": S_IFLNK, **_NODES}[one.entry.kind]
