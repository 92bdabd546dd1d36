"""Gives a restored tree what the medium could not hold and the manifest kept: owners, modes, ACLs, links, devices.

Works by descriptors, and only on entries that are of the type that the manifest says: a manifest that lies must not
lead to a file outside the tree. Folders come last, because what is done in them changes their times.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from secrets import token_hex
from stat import S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK

from drbdbackup.manifest import ROOT, Recorded, attributes_of
from drbdbackup.pipeline.aside import stored_at
from drbdbackup.pipeline.attributes import give
from drbdbackup.pipeline.compare import KINDS, holdable, is_aside, shape
from drbdbackup.pipeline.trees import Descent, entries, path_of
from drbdbackup.targets.abilities import Abilities

Problems = list[tuple[bytes, str]]
_NODES = {b"p": S_IFIFO, b"s": S_IFSOCK, b"c": S_IFCHR, b"b": S_IFBLK}
_OURS = ("user.", "trusted.", "system.posix_acl_")  # what a security module gives to a file is not the snapshot's


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
    seen: dict[int, int] = {}
    with closing(Descent(folder)) as descent:
        for one in wanted:
            if one.entry.kind == b"f" and one.entry.nlink > 1:
                with suppress(OSError):
                    above, name = descent.parent(one.entry.path)
                    inode = _inode(above, name)
                    if seen.setdefault(one.entry.inode, inode) != inode:
                        return True
    return False


class Giving:
    """One tree, open as `folder`; `problems` says what could not be given.

    `over`: what is in the way may go, but no folder with something in it.
    """

    def __init__(self, folder: int, can: Abilities, beside: str, over: bool) -> None:
        """Nothing happens before `give_all`; `beside` is the folder that holds what lies aside."""
        self.problems: Problems = []
        self._folder = folder
        self._can = can
        self._beside = beside
        self._over = over
        self._first_names: dict[int, bytes] = {}

    def give_all(self, read: Callable[[], Iterator[Recorded]], on_entry: Callable[[], None]) -> None:
        """Give each entry what is its own; `read` reads the manifest's entries anew, and is called twice."""
        for effect in (self._give, self._give_folder):
            with closing(Descent(self._folder)) as descent:
                for one in read():
                    on_entry()
                    effect(descent, one)

    def _give(self, descent: Descent, one: Recorded) -> None:
        """Make what is missing; everything of its own but for folders."""
        entry = one.entry
        with self._noting(entry.path):
            if entry.path == ROOT:
                return
            above, name = descent.parent(entry.path)
            if is_aside(one) or entry.kind not in holdable(self._can):
                self._make(above, name, one)
            if entry.kind == b"f" and entry.nlink > 1:
                self._join(above, name, one)
            if entry.kind != b"d":
                self._attribute(above, name, one)

    def _give_folder(self, descent: Descent, one: Recorded) -> None:
        if one.entry.kind == b"d":
            with self._noting(one.entry.path):
                above, name = (self._folder, b".") if one.entry.path == ROOT else descent.parent(one.entry.path)
                self._attribute(above, name, one)

    @contextmanager
    def _noting(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            return  # the check says so
        except OSError as error:
            self.problems.append((path, error.strerror or "could not be given what is its own"))

    def _attribute(self, above: int, name: bytes, one: Recorded) -> None:
        """Owner, mode, times, extended attributes."""
        there = os.stat(name, dir_fd=above, follow_symlinks=False)
        if S_IFMT(there.st_mode) != S_IFMT(_mode(one)):
            self.problems.append((one.entry.path, f"is not the {KINDS[one.entry.kind]} that it was"))
            return
        at = path_of(above, name)
        extended = attributes_of(one.attributes)
        if self._over and not (self._can.acls and self._can.xattrs):
            for other in os.listxattr(at, follow_symlinks=False):
                if other.startswith(_OURS) and other not in extended:
                    with suppress(OSError):
                        os.removexattr(at, other, follow_symlinks=False)
        if lost := give(at, one.entry, extended):
            self.problems.append((one.entry.path, "; ".join(lost)))

    def _make(self, above: int, name: bytes, one: Recorded) -> None:
        """An entry that the medium had no place for: by its type (symlinks, devices, ...) or by its name."""
        there = next(entries(above, name, lambda _: None), None)
        if there is not None and not shape(one, there) and one.entry.kind != b"f":
            return
        if there is not None:
            if not self._over:
                self.problems.append((one.entry.path, "something else is there and stays"))
                return
            take_away = os.rmdir if there.kind == b"d" else os.unlink
            take_away(name, dir_fd=above)
        if one.entry.kind == b"f":
            self._copy(above, name, one)
        elif one.entry.kind == b"d":
            os.mkdir(name, 0o700, dir_fd=above)
        elif one.entry.kind == b"l":
            os.symlink(one.entry.link, name, dir_fd=above)
        else:
            os.mknod(name, _NODES[one.entry.kind] | 0o600, one.entry.rdev, dir_fd=above)

    def _copy(self, above: int, name: bytes, one: Recorded) -> None:
        """The content that lies aside, as long as it is what was backed up."""
        import xxhash

        state, path = xxhash.xxh128(), stored_at(self._beside, one.entry.path)
        with (
            open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as reader,
            open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=above), "wb") as to,
        ):
            while piece := reader.read(1 << 20):
                state.update(piece)
                to.write(piece)
        if state.hexdigest() != one.hash:
            self.problems.append((one.entry.path, "has another content than was backed up"))

    def _join(self, above: int, name: bytes, one: Recorded) -> None:
        """A further name of an inode that came back as a file of its own."""
        first = self._first_names.setdefault(one.entry.inode, one.entry.path)
        if first == one.entry.path:
            return
        other = Descent(self._folder)
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


def _mode(one: Recorded) -> int:
    return {b"f": 0o100000, b"d": 0o040000, b"l": 0o120000, **_NODES}[one.entry.kind]
