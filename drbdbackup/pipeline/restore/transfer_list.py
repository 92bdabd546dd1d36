"""The list of what rsync is to transfer: the entries that the manifest has and the medium holds, and nothing else.

What somebody has put into a copy since it was made is on no list, so it is never restored, and the copy is not walked
to find it. The list is a file: no entry is kept in memory.

rsync cannot go deeper than some 1,000 folders. What is deeper has lists of its own, each from a folder on the way.
Large files that are mostly holes have one, which rsync does not get: it would read the holes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import BinaryIO

from drbdbackup.errors import Damaged
from drbdbackup.manifest import ROOT, Recorded
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.copies.open_copy import OpenCopy
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.compare import attributes_to_tell, is_aside, wrong_size
from drbdbackup.pipeline.files.metadata import attributes, own
from drbdbackup.pipeline.files.tree import ParentOpener
from drbdbackup.pipeline.restore import copy_sparse_files
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools import rsync

DEEPEST = 500  # folders below which a list of its own begins


class TransferList:
    """One list, and those of what is too deep for it; entries are added in merge order.

    `deep` are the folders from which the further lists go, each with its file, those above before those in them.
    The file `holed` lists large files with holes, for `copy_sparse_files`. `problems` are attributes on the medium that
    do not come from there, `damaged` are files that are on no list, since they have another size there. `bytes` is how
    many the others have.
    """

    def __init__(self, file: str, top: bytes, can: Abilities, data: int | None, *, is_own: bool = True) -> None:
        """Write to `file`, with names from the folder that `top` is in (b"": from the volume's top).

        `can` is what the medium holds; `data` is the copy's tree, open, or None for one at a peer. `is_own`: see
        `attributes_to_tell`.
        """
        self.problems: list[Problem] = []
        self.damaged: list[Problem] = []
        self.bytes = 0
        self.deep: list[tuple[Recorded, str]] = []
        self._name = file
        self._open: list[tuple[bytes, BinaryIO]] = []
        self._begin(top.rpartition(b"/")[0] + b"/" if b"/" in top else b"")
        self._can = can
        self._is_own = is_own
        self._opener = None if data is None else ParentOpener(data)
        self._not_below = b""
        self.holed = f"{file}-holed"
        self._holed = open(self.holed, "wb")  # noqa: SIM115

    def add(self, one: Recorded) -> None:
        """Put an entry on it, unless the medium has nothing by that name that could be the entry."""
        path = one.entry.path
        if is_aside(one) or one.entry.kind not in self._can.kinds:
            return
        if self._not_below and path.startswith(self._not_below):
            return
        is_sound = self._opener is None or self._look_at(one, self._opener)
        if path == ROOT or not is_sound:
            return
        if one.entry.kind == b"d" and not self._is_folder(path):
            self._not_below = path + b"/"
        if self._opener is not None and copy_sparse_files.is_holed(one, self._opener):
            self._holed.write(copy_sparse_files.listed(one))
            return
        while not path.startswith(self._open[-1][0]):
            self._open.pop()[1].close()
        base, file = self._open[-1]
        name = path[len(base) :]
        file.write(rsync.listed(name))
        if one.entry.kind == b"d" and name.count(b"/") + 1 >= DEEPEST and self._opener is not None:
            self.deep.append((one, self._begin(path + b"/")))

    def _look_at(self, one: Recorded, opener: ParentOpener) -> bool:
        """Whether it may be read: not a file that somebody has made larger or smaller since."""
        path = one.entry.path
        try:
            above, name = opener.parent(path)
            there = tree.entry_at(above, name, path)
            if there.kind == one.entry.kind == b"f" and (why := wrong_size(one, there.size)):
                self.damaged.append(Problem.at(path, why))
                return False
            self.bytes += there.size if there.kind == b"f" else 0
            if why := self.odd_attributes(one, lambda: attributes(tree.path_of(above, name))):
                self.problems.append(Problem.at(path, why))
        except OSError:
            return True  # rsync says so, or the check
        return True

    def odd_attributes(self, one: Recorded, read: Callable[[], dict[bytes, bytes]]) -> str:
        """What of the attributes that are `read` on the medium does not come from there, in words. Raises OSError."""
        if not (self._can.acls or self._can.xattrs):
            return ""
        found = read()
        try:
            return attributes_to_tell(one, own(found), self._can, is_own=self._is_own)
        except Damaged as error:
            return error.message

    def _begin(self, base: bytes) -> str:
        name = f"{self._name}-{len(self.deep)}" if self._open else self._name
        self._open.append((base, open(name, "wb")))  # noqa: SIM115
        return name

    def close(self) -> None:
        """Let go of what is open."""
        self._holed.close()
        while self._open:
            self._open.pop()[1].close()
        if self._opener is not None:
            self._opener.close()

    def _is_folder(self, path: bytes) -> bool:
        """Whether it is one on the medium. rsync would follow a symlink in its place to what is in it."""
        if self._opener is None:
            return True
        try:
            self._opener.parent(path + b"/.")
        except OSError:
            return False
        return True


@contextmanager
def ends(copy: OpenCopy, folder: int, top: bytes, folders: bytes = b"") -> Iterator[tuple[str, str]]:
    """What rsync reads and where it writes: the folders that `top` lies in, open as long as it works.

    `folder` is the open destination. `folders` must be folders as far as it goes, on the medium too: rsync would go on
    through a symlink.
    """
    with ExitStack() as stack:
        above = stack.enter_context(closing(ParentOpener(folder))).parent(top)[0]
        if copy.shell:
            source = copy.at_peer(top)
        else:
            data = stack.enter_context(tree.open_folder(copy.data))
            if folders:
                stack.enter_context(closing(ParentOpener(data))).parent(folders + b"/.")
            source = tree.shown_to_others(stack.enter_context(closing(ParentOpener(data))).parent(top)[0])
        yield source, tree.shown_to_others(above)
