"""What is wrong with an entry: the same value in a job, in what it says, in `snapshot.json` and in the report."""

from __future__ import annotations

import os

from msgspec import Struct


class Problem(Struct, frozen=True, array_like=True):
    """The entry at `path`, or all of it where that is "", and the `reason` why it is not, or not surely, right.

    The path is from the top of the tree, with lone surrogates for bytes that are no UTF-8. In a message between a job
    and its supervisor it is an array of the two.
    """

    path: str
    reason: str

    @classmethod
    def at(cls, path: bytes, reason: str) -> Problem:
        """The problem of an entry whose path is as the walk and the manifest have it."""
        return cls(os.fsdecode(path), reason)

    def as_document(self) -> dict[str, str]:
        """As it is in `snapshot.json`, and in what a script asked for."""
        return {"path": self.path, "problem": self.reason}

    @property
    def entry_path(self) -> bytes:
        """The path as the walk and the manifest have it."""
        return os.fsencode(self.path)
