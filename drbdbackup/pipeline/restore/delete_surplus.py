"""What an in-place restore deletes: what the volume holds and the snapshot does not, entry by entry.

rsync's --delete is not used for this: it would take what the backup leaves out (excluded paths, other file systems)
and what could not be read when the snapshot was made. What the walk does not see is never deleted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct, field

from drbdbackup.errors import Damaged
from drbdbackup.manifest import Entry, Recorded, unescape
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.compare import paired
from drbdbackup.pipeline.files.tree import Excluded, ParentOpener, path_of
from drbdbackup.scan import exclusion
from drbdbackup.targets.sidecar import Sidecar

SHOWN = 20


class Surplus(Struct):
    """Entries that the snapshot does not have: their number, the files' size in bytes, the first of their paths."""

    entries: int = 0
    size: int = 0
    shown: list[bytes] = field(default_factory=list)

    def count(self, entry: Entry) -> None:
        """One more."""
        self.entries += 1
        self.size += entry.size if entry.kind == b"f" else 0
        if len(self.shown) < SHOWN:
            self.shown.append(entry.path)


def may_delete(sidecar: Sidecar) -> bool:
    """Not if more was left out of the snapshot than its sidecar names: unread, excluded, or another file system."""
    return sidecar.unread_count <= len(sidecar.unread) and sidecar.exclude is not None and sidecar.left_out is not None


def left_out(sidecar: Sidecar) -> frozenset[bytes]:
    """Mount points in the volume that were not entered when the snapshot was made."""
    return frozenset(os.fsencode(path) for path in sidecar.left_out or ())


def not_read(sidecar: Sidecar) -> set[bytes]:
    """What could not be read for the snapshot. Older versions named it as the walk's list does, with escapes."""
    named = [one.entry_path for one in sidecar.unread]
    return {*named, *map(unescape, named)}


def spared(sidecar: Sidecar, patterns: tuple[str, ...]) -> Excluded | None:
    """What is out of a restore's sight: excluded by the `patterns` of now, or by those of then.

    One test for each of them, because a pattern may take back one before it. Raises Damaged for recorded patterns that
    are none.
    """
    try:
        tests = [test for test in (exclusion(patterns), exclusion(sidecar.exclude or ())) if test is not None]
    except ValueError as error:
        raise Damaged(f"{sidecar.snapshot} was made with invalid patterns: {error}") from None
    return (lambda path, is_folder: any(test(path, is_folder) for test in tests)) if tests else None


def surplus(
    recorded: Iterable[Recorded], found: Iterable[Entry], sidecar: Sidecar, mountpoints: frozenset[bytes], *,
    in_the_way: bool = False, seen: Callable[[Recorded | None, Entry | None], None] = lambda *_: None,
) -> Iterator[Entry]:  # fmt: skip
    """The entries found that the snapshot does not have, in merge order.

    What it cannot know of is not among them: paths that were not read when it was made, and mount points. Of all that,
    `in_the_way` is what lies in folders where the snapshot has something else. `seen` gets every pair that may change.
    """
    if not may_delete(sidecar):
        return
    spared = mountpoints | not_read(sidecar)
    within = b"" if in_the_way else None
    for one, there in paired(recorded, found):
        if one is not None or (there is not None and not is_in(there.path, spared)):
            seen(one, there)
        if there is None:
            continue
        if one is not None:
            if in_the_way and there.kind == b"d" != one.entry.kind:
                within = there.path + b"/"
        elif (within is None or (within and there.path.startswith(within))) and not is_in(there.path, spared):
            yield there


def delete(
    folder: int, gone: Iterable[Entry], counted: Surplus, on_entry: Callable[[], None]
) -> list[Problem]:
    """Delete these entries (in merge order) from an open folder; what could not be, and why.

    Folders go when they are empty, and the times of the folders around stay.
    """
    problems: list[Problem] = []
    waiting: list[bytes] = []
    opener = ParentOpener(folder)
    try:
        for entry in gone:
            on_entry()
            while waiting and not entry.path.startswith(waiting[-1] + b"/"):
                _remove(opener, waiting.pop(), problems, is_folder=True)
            counted.count(entry)
            if entry.kind == b"d":
                waiting.append(entry.path)
            else:
                _remove(opener, entry.path, problems, is_folder=False)
        while waiting:
            _remove(opener, waiting.pop(), problems, is_folder=True)
    finally:
        opener.close()
    return problems


def _remove(opener: ParentOpener, path: bytes, problems: list[Problem], *, is_folder: bool) -> None:
    try:
        above, name = opener.parent(path)
        before = os.fstat(above)
        if is_folder:
            os.rmdir(name, dir_fd=above)
        else:
            os.unlink(name, dir_fd=above)
        os.utime(path_of(above), ns=(before.st_atime_ns, before.st_mtime_ns))
    except FileNotFoundError:
        return
    except OSError as error:
        if not (is_folder and error.errno == errno.ENOTEMPTY):  # it holds what the backup leaves out
            problems.append(Problem.at(path, f"not deleted: {error.strerror}"))


def is_in(path: bytes, spared: frozenset[bytes]) -> bool:
    """Whether a path is one of these, or below one."""
    if not spared:
        return False
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in spared for depth in range(1, len(parts) + 1))
