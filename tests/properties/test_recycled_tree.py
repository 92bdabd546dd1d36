"""Random nights, each made of the tree of the oldest snapshot: the new one is the volume, and no other has changed."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from drbdbackup import manifest
from drbdbackup.errors import Interrupted
from drbdbackup.manifest import KINDS
from drbdbackup.pipeline.snapshot.copy_files import CopySettings
from drbdbackup.pipeline.snapshot.make import make_snapshot
from drbdbackup.pipeline.snapshot.plan import Base
from drbdbackup.pipeline.snapshot.recycled_tree import UnusableTreeError, give_up, take
from drbdbackup.pipeline.snapshot.workspace import Workspace
from drbdbackup.scan import Spool, Walk, write_spool
from drbdbackup.targets import layout
from drbdbackup.tools.rsync import Holds
from tests.played_pair import differences

KEPT = 3
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and device nodes want root")
FIRST = ["a", "b", "c\n/a", "c\n/b", "c\n/d/a", "d/a/a", "d/a/b", "d/b", "e/a"]
paths = st.sampled_from([*FIRST, "c\n", "c\n/d", "d", "d/a", "e", "f", "c\n/f", "d/a/f", "f/a"])
kinds = st.sampled_from(
    ["file", "file", "folder", "symlink", "fifo", "link", "mode", "owner", "attribute", "gone", "gone", "moved"]
)
changes = st.tuples(kinds, paths, paths)
days = st.lists(changes, max_size=5)
tamperings = st.tuples(st.sampled_from(["extra", "replaced", "gone", "elsewhere", "emptied"]), paths)
# the changes of a day, what somebody did to the oldest snapshot, and after how many entries the run is cut off
nights = st.tuples(days, st.lists(tamperings, max_size=2), st.none() | st.integers(0, 12))


class Ground:
    """A volume, and a target with snapshots of it that are made by hand."""

    def __init__(self, folder: Path) -> None:
        self.volume, self.root, self.scratch = folder / "volume", folder / "root", folder / "scratch"
        for path in (self.volume, self.scratch, Path(layout.resource_folder(str(self.root), "raid"))):
            path.mkdir(parents=True)
        self.names: list[str] = []
        self.made = 0
        self.after_walk: Callable[[Path], None] = lambda spool: None

    def data(self, name: str) -> Path:
        return Path(layout.data(layout.snapshot_folder(str(self.root), "raid", name)))

    def changes(self, kind: str, one: str, other: str) -> None:
        """Something that people do, where it can be done."""
        path, second = self.volume / one, self.volume / other
        with suppress(OSError):
            change(kind, path, second)

    def night(self, cut: int | None) -> bool:
        """Make a snapshot with the tree of the oldest, if there are enough; whether it was made."""
        self.made += 1
        name = f"20261123T{self.made:06}Z-www4"
        shutil.rmtree(self.scratch)
        self.scratch.mkdir()
        fresh = layout.partial(str(self.root), "raid", name)
        Path(fresh).mkdir()
        recycled = len(self.names) >= KEPT and take(str(self.root), "raid", self.names.pop(0), fresh)
        try:
            self._make(fresh, cut, recycled)
        except UnusableTreeError:
            give_up(fresh)
            self._make(fresh, cut, False)
        except Interrupted:
            return False
        os.rename(fresh, layout.snapshot_folder(str(self.root), "raid", name))
        self.names.append(name)
        return True

    def _make(self, fresh: str, cut: int | None, recycled: bool) -> None:
        problems: list[object] = []
        spool = str(self.scratch / "spool")
        write_spool(  # the clock is ahead: what has just been changed is old enough to be trusted
            Walk(str(self.volume), None, frozenset(), problems.append), spool, time.time_ns() + 10**10, [],
            lambda totals: None,
        )  # fmt: skip
        self.after_walk(Path(spool))
        if not recycled:
            os.mkdir(layout.data(fresh), 0o700)
        with ExitStack() as stack:
            bases = []
            if self.names:
                newest = self.data(self.names[-1])
                lines = stack.enter_context(manifest.reading(layout.manifest(str(newest.parent))))
                bases = [Base(str(newest), lines)]
            place = CopySettings(
                source=str(self.volume), data=layout.data(fresh), scratch=str(self.scratch), holds=Holds()
            )
            workspace = Workspace(place=place, fresh=fresh, bases=bases, recycling=recycled, holdable=KINDS)
            make_snapshot(workspace, Cut(spool, 60, cut))
        assert not workspace.filled.problems


class Cut(Spool):
    """A walk that is followed up to a line, and then the run is over."""

    def __init__(self, file: str, patience: float, after: int | None) -> None:
        super().__init__(file, patience)
        self._after = after

    def __iter__(self) -> Iterator[bytes]:
        yield from super().__iter__() if self._after is None else islice(super().__iter__(), self._after)
        if self._after is not None:
            raise Interrupted("cut off")


def change(kind: str, path: Path, second: Path) -> None:
    match kind:
        case "file":
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() or not path.exists():  # nobody reads the FIFOs
                path.write_text(str(time.time_ns()))
        case "folder":
            path.mkdir(parents=True)
        case "symlink":
            path.symlink_to(second.name)
        case "fifo":
            os.mkfifo(path)
        case "link":
            os.link(path, second)
        case "mode":
            path.chmod(stat.S_IMODE(path.stat().st_mode) ^ 0o044)
        case "owner":
            os.chown(path, 7, 8, follow_symlinks=False)
        case "attribute":
            os.setxattr(path, "user.day", str(time.time_ns()).encode())
        case "moved":
            path.rename(second)
        case "gone":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def tamper(kind: str, path: Path, newest: Path) -> None:
    """What a NAS or somebody else may have done to a snapshot's own names (its inodes are others', too)."""
    match kind:
        case "extra":
            path.open("x").close()
        case "replaced":
            path.unlink()
            path.write_text("not what it was")
        case "gone" | "elsewhere" | "emptied":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            if kind == "elsewhere":
                path.symlink_to(newest)
            elif kind == "emptied":
                path.mkdir()


def fingerprint(root: Path) -> dict[str, object]:
    """All that a tree is, but how many names its inodes have elsewhere."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
            seen = os.lstat(path)
            kind = stat.S_IFMT(seen.st_mode)
            content = Path(path).read_bytes() if stat.S_ISREG(kind) else os.readlink(path) if stat.S_ISLNK(kind) else ""
            attributes = {name: os.getxattr(path, name, follow_symlinks=False)
                          for name in os.listxattr(path, follow_symlinks=False)}  # fmt: skip
            found[os.path.relpath(path, root)] = (
                content, attributes, seen.st_ino, seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns
            )  # fmt: skip
    return found


LINKED = ([("link", "a", "e/f"), ("link", "a", "d/f")], [], None)


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(nights=st.lists(nights, min_size=2, max_size=5))
@example([([("gone", "c\n/a", ""), ("gone", "d", ""), ("file", "e/a", "")], [], None)])
@example([LINKED, ([], [], None), ([], [], None), ([("file", "a", "")], [], None)])
@example([([], [("replaced", "b"), ("elsewhere", "d/a"), ("extra", "c\n/x"), ("gone", "e")], None)])
@example([([("gone", "c\n/a", "")], [], 4), ([("file", "a", "")], [], None), ([], [], None)])
def test_a_night_that_begins_with_an_old_tree_is_the_volume_and_changes_no_other(
    tmp_path_factory: pytest.TempPathFactory, nights: list
) -> None:
    ground = Ground(tmp_path_factory.mktemp("ground"))
    for path in FIRST:
        ground.changes("file", path, "")
    for _ in range(KEPT):
        assert ground.night(None)
    for day, tampered, cut in nights:
        for one in day:
            ground.changes(*one)
        for kind, path in tampered if len(ground.names) >= KEPT else ():
            with suppress(OSError):
                tamper(kind, ground.data(ground.names[0]) / path, ground.data(ground.names[-1]))
        others = {name: fingerprint(ground.data(name)) for name in ground.names[1:]}
        if ground.night(cut):
            assert differences(ground.volume, ground.data(ground.names[-1])) == []
        for name, before in others.items():
            if name in ground.names:
                assert fingerprint(ground.data(name)) == before, f"{name} has changed"
    shutil.rmtree(ground.root.parent)


def test_an_inode_that_changes_during_the_walk_is_copied_under_all_its_names(tmp_path: Path) -> None:
    """One of its names was met before the change: its entry is as it was, and it was kept at first."""
    ground = Ground(tmp_path)
    ground.changes("file", "a", "")
    ground.changes("link", "a", "b")
    for _ in range(KEPT):
        assert ground.night(None)

    def changed(spool: Path) -> None:
        (ground.volume / "a").chmod(0o600)
        later = [line.split(b" ") for line in spool.read_bytes().splitlines(keepends=True)]
        for fields in later:
            if fields[-1] == b"b\n":
                fields[1] = b"600"
        spool.write_bytes(b"".join(map(b" ".join, later)))

    ground.after_walk = changed
    others = {name: fingerprint(ground.data(name)) for name in ground.names[1:]}
    assert ground.night(None)
    assert differences(ground.volume, ground.data(ground.names[-1])) == []
    assert {name: fingerprint(ground.data(name)) for name in others} == others
