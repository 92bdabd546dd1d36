"""Immutable and append-only files that a restore would have to replace or delete: found before services stop.

Found later they would end the restore when all else is in place, and leave the services stopped.
"""

from __future__ import annotations

import os
from contextlib import suppress

from drbdbackup.errors import Damaged, UsageError
from drbdbackup.manifest import ROOT, Entry, Recorded
from drbdbackup.pipeline.files.compare import attributes_differ, largest, shape
from drbdbackup.pipeline.files.content import ContentHashes
from drbdbackup.pipeline.files.metadata import attributes, own
from drbdbackup.pipeline.files.tree import ParentOpener, path_of
from drbdbackup.pipeline.restore.apply_metadata import gives_rights, is_other
from drbdbackup.targets.abilities import Abilities
from drbdbackup.tools import chattr

_NAMED = 5


class ImmutableFiles:
    """Asked about entries in merge order; `folder` is the open volume."""

    def __init__(self, folder: int, can: Abilities) -> None:
        """Nothing is found yet. `can` is what the copy's medium holds."""
        self._can = can
        self._hashes = ContentHashes()
        self._opener = ParentOpener(folder)
        self._above: bytes | None = None
        self._found: list[bytes] = []
        self._count = 0

    def look(self, one: Recorded | None, there: Entry | None) -> None:
        """An entry of the snapshot (None: it has none), and what is there. Only what would change counts."""
        if one is not None and there is not None and not (shape(one, there) or is_other(one.entry, there)):
            self._look_closer(one)
            return
        entry = there or (one.entry if one else None)
        if entry is None:
            return
        with suppress(OSError):  # a folder above is no folder yet
            folder, name = self._opener.parent(b"" if entry.path == ROOT else entry.path)
            if there is not None and chattr.is_protected(folder, name):
                self._note(entry.path)
            above = entry.path.rpartition(b"/")[0]
            if (one is None or there is None) and above != self._above:  # a name comes or goes
                self._above = above
                if chattr.is_protected(folder, b""):
                    self._note(above or ROOT)

    def _look_closer(self, one: Recorded) -> None:
        """Content and attributes may differ all the same; and what gives rights is made anew in its folder."""
        if one.entry.kind not in b"fd":
            return
        with suppress(OSError):
            folder, name = self._opener.parent(b"" if one.entry.path == ROOT else one.entry.path)
            if chattr.is_protected(folder, name):
                if not has_all(folder, name, one, self._can, self._hashes):
                    self._note(one.entry.path)
            elif gives_rights(one) and chattr.is_protected(folder, b""):
                self._note(one.entry.path.rpartition(b"/")[0] or ROOT)

    def _note(self, path: bytes) -> None:
        self._count += path not in self._found
        if len(self._found) < _NAMED and path not in self._found:
            self._found.append(path)

    def refuse(self) -> None:
        """Raises UsageError if something was found."""
        self._opener.close()
        if self._found:
            more = f" and {self._count - len(self._found)} more" if self._count > len(self._found) else ""
            paths = ", ".join(repr(os.fsdecode(path)) for path in self._found)
            raise UsageError(
                f"`chattr` protects {paths}{more}, and the restore would have to replace or delete that",
                "Look with `lsattr -d`, and take it back with `chattr -i -a`. Nothing was replaced.",
            )


def is_protected_as_it_was(
    folder: int, name: bytes, one: Recorded, there: Entry, can: Abilities, hashes: ContentHashes
) -> bool:
    """Whether nobody but root can change or exchange this entry, and it needs nothing: then it is left as it is."""
    if shape(one, there) or is_other(one.entry, there) or not chattr.is_protected(folder, name):
        return False
    return has_all(folder, name, one, can, hashes)


def has_all(folder: int, name: bytes, one: Recorded, can: Abilities, hashes: ContentHashes) -> bool:
    """Whether a file or folder, which shows nothing else in a listing, has the content and attributes of the snapshot.

    Raises OSError.
    """
    with suppress(Damaged):
        there = own({os.fsdecode(key): value for key, value in attributes(path_of(folder, name)).items()})
        if attributes_differ(one, there, can):
            return False
    return one.entry.kind != b"f" or hashes.of(folder, name, names=one.entry.nlink, most=largest(one) + 1) == one.hash
