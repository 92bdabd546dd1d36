from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
import xxhash

from drbdbackup.errors import TargetFull
from drbdbackup.manifest import path_of, split
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.files.content import content_hash
from drbdbackup.pipeline.files.metadata import attributes
from drbdbackup.pipeline.files.tree import open_folder
from drbdbackup.pipeline.snapshot.copy_files import Copied, Copier, CopySettings, ResumeFile
from drbdbackup.pipeline.snapshot.copy_plain_files import PlainCopier, PlainRead
from drbdbackup.pipeline.volume.hole_quota import HoleQuota
from drbdbackup.scan import Walk
from drbdbackup.tools import rsync
from tests.captured import play
from tests.played_media import disk, tool
from tests.played_pair import differences

NS = 1_700_000_000_123_456_789


class Played:
    """A source and a target, and plain files copied from one to the other."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "source", folder / "target"
        self.bytes = 0
        for root in (self.source, self.target):
            (root / "in").mkdir(parents=True)

    def copy(self, path: bytes, is_clone: bool = False) -> bytes:
        """The hash of one file, or nothing if it is left to rsync."""
        return self.copy_all([path], is_clone).get(path, b"")

    def copy_all(self, paths: Iterable[bytes], is_clone: bool = False) -> dict[bytes, bytes]:
        copied: dict[bytes, bytes] = {}

        def keep(
            path: bytes, content: bytes, _: PlainRead, lacks: Collection[str], given: Mapping[bytes, bytes]
        ) -> None:
            assert not lacks
            assert given == attributes(os.path.join(os.fsencode(self.target), path))
            copied[path] = content

        plain = PlainCopier(str(self.source), str(self.target), self._came, keep, is_clone=is_clone)
        for path in paths:
            plain.add(path)
        plain.finish()
        return copied

    def _came(self, length: int, _: int) -> None:
        self.bytes += length


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    with disk(tmp_path, "ext4") as at:
        yield Played(at)


def test_a_file_comes_with_all_that_it_has(played: Played) -> None:
    path = played.source / "in/file"
    path.write_bytes(b"content" * 50_000)
    os.chown(path, 1234, 4321)
    path.chmod(0o4751)
    tool("setfacl", "-m", "u:77:rw", path)
    tool("setfattr", "-n", "trusted.odd", "-v", "value", path)
    os.utime(path, ns=(NS, NS))
    assert played.copy(b"in/file").decode() == xxhash.xxh128(path.read_bytes()).hexdigest()
    assert played.bytes == 350_000
    assert [line for line in differences(played.source / "in", played.target / "in") if "file" in line] == []


def test_many_files_of_several_folders_come_and_no_folder_stays_open(played: Played) -> None:
    paths = [b"%s/file-%03d" % (folder, number) for folder in (b"in", b"in/a", b"in/b", b"odd") for number in range(90)]
    (played.source / "odd").mkdir()
    for path in sorted(paths):
        at = played.source / os.fsdecode(path)
        at.parent.mkdir(exist_ok=True)
        at.write_bytes(path)
        os.chown(at, len(path) % 3, int(path[-1:]))
        (played.target / os.fsdecode(path)).parent.mkdir(exist_ok=True)
    (played.target / "in/a/file-007").touch()
    before = os.listdir("/proc/self/fd")
    copied = played.copy_all(sorted(paths))
    assert os.listdir("/proc/self/fd") == before
    assert sorted(set(paths) - copied.keys()) == [b"in/a/file-007"]
    assert played.bytes == sum(len(path) for path in copied)
    files = [line for line in differences(played.source, played.target) if line.startswith(">f") or ".f" in line]
    assert [line.split()[-1] for line in files] == ["in/a/file-007"]


@pytest.mark.parametrize("content", [b"", b"x"], ids=["empty", "small"])
def test_small_files_too(played: Played, content: bytes) -> None:
    (played.source / "file").write_bytes(content)
    assert played.copy(b"file").decode() == xxhash.xxh128(content).hexdigest()
    assert (played.target / "file").read_bytes() == content


@pytest.mark.parametrize("tail", [b"", b"end"], ids=["a hole at its end", "a hole in it"])
def test_holes_stay_holes(played: Played, tail: bytes) -> None:
    path = played.source / "sparse"
    path.write_bytes(b"begin")
    os.truncate(path, 1 << 23)
    with path.open("ab") as file:
        file.write(tail)
    assert played.copy(b"sparse").decode() == xxhash.xxh128(path.read_bytes()).hexdigest()
    assert (played.target / "sparse").read_bytes() == path.read_bytes()
    assert (played.target / "sparse").stat().st_blocks * 512 < 1 << 20


def test_what_is_odd_is_left_to_rsync_and_nothing_of_it_is_there(played: Played) -> None:
    (played.source / "link").symlink_to("/etc/passwd")
    os.mkfifo(played.source / "fifo")
    (played.source / "etc").symlink_to("/etc")
    (played.target / "etc").mkdir()
    for path in (b"link", b"fifo", b"in", b"etc/passwd", b"nowhere", b"nowhere/file"):
        assert played.copy(path) == b""
    assert sorted(os.listdir(played.target)) == ["etc", "in"]
    assert os.listdir(played.target / "etc") == []


def test_what_is_replaced_in_a_clone_stays_as_it_was_under_its_other_name(played: Played) -> None:
    (played.target / "published").write_text("old")
    os.link(played.target / "published", played.target / "file")
    (played.source / "file").write_text("new")
    assert played.copy(b"file", is_clone=False) == b""
    assert (played.target / "file").read_text() == "old"
    assert played.copy(b"file", is_clone=True)
    assert (played.target / "file").read_text() == "new"
    assert (played.target / "published").read_text() == "old"


def test_a_default_acl_of_the_target_leaves_no_trace(played: Played) -> None:
    tool("setfacl", "-d", "-m", "u:77:rwx", played.target / "in")
    (played.source / "in/file").write_text("x")
    assert played.copy(b"in/file")
    assert os.listxattr(played.target / "in/file") == []


def test_a_full_disk_ends_it_and_keeps_no_half_file(played: Played) -> None:
    with (played.source / "large").open("wb") as file:
        for number in range(20):
            file.write(bytes([number + 1]) * (1 << 20))
    tool("fallocate", "-l", "15M", played.target / "filler")
    with pytest.raises(TargetFull, match="no space"):
        played.copy(b"large")
    assert not (played.target / "large").exists()
    assert played.bytes == 0


HOLES = 8 << 30


def read_by(work: Callable[[], object]) -> int:
    """How many bytes this process reads meanwhile."""
    def so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = so_far()
    work()
    return so_far() - before


@pytest.mark.parametrize("at", [(), (0,), (5 << 20,), (HOLES - 4096,), (4096, 3 << 20, HOLES - 10)])
def test_holes_are_neither_read_nor_written(played: Played, at: tuple[int, ...]) -> None:
    """Whoever can write to the volume can make a terabyte of them for nothing."""
    source, target = played.source / "in/file", played.target / "in/file"
    whole = xxhash.xxh128()
    with source.open("wb") as file:
        file.truncate(HOLES)
        for where in at:
            file.seek(where)
            file.write(b"content")
    done, zeros = 0, bytes(1 << 20)
    for where in (*at, HOLES):
        while done < where:
            done += len(piece := zeros[: where - done])
            whole.update(piece)
        if where < HOLES:
            whole.update(b"content")
            done += 7
    copied: list[bytes] = []
    assert read_by(lambda: copied.append(played.copy(b"in/file"))) < 4 << 20
    assert copied == [whole.hexdigest().encode()]
    assert played.bytes == target.stat().st_size == HOLES
    assert target.stat().st_blocks * 512 <= 1 << 20
    with open_folder(str(played.target / "in")) as folder:
        hashed: list[str] = []
        assert read_by(lambda: hashed.append(content_hash(folder, b"file", from_medium=True))) < 4 << 20
        assert hashed == [whole.hexdigest()]


def test_a_file_that_would_take_days_to_hash_is_a_problem_and_no_copy(tmp_path: Path) -> None:
    """Some file systems allow eight exabytes of holes, and a catalog has no number for a few of them."""
    tool("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    try:
        for name, size in (("large", 64 << 40), ("larger", (64 << 40) + 1), ("largest", (1 << 63) - 4096)):
            with (tmp_path / name).open("wb") as file:
                file.truncate(size)
        problems: list[Problem] = []
        walk = Walk(str(tmp_path), None, frozenset(), problems.append)
        lines = list(walk)
    finally:
        tool("umount", tmp_path)
    assert [path_of(line) for line in lines] == [b".", b"large"]
    assert sorted(problem.path for problem in problems) == ["larger", "largest"]
    assert (walk.totals.files, walk.totals.bytes, walk.totals.allocated) == (1, 64 << 40, 0)


def test_the_holes_of_an_owner_are_bounded_whatever_number_of_files_has_them(tmp_path: Path) -> None:
    """The ids that a user may have beside his own are taken for one; and a file is counted once."""
    sizes = {"a": (33, 40), "b": (33, 30), "c": (33, 20), "d": (0, 50), "e": (100_001, 40), "f": (165_000, 30)}
    tool("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    try:
        for name, (uid, size) in sizes.items():
            with (tmp_path / name).open("wb") as file:
                file.truncate(size << 40)
            os.chown(tmp_path / name, uid, uid)
        for name in ("a", "b"):
            os.link(tmp_path / name, tmp_path / f"{name}-again")
        problems: list[Problem] = []
        lines = list(Walk(str(tmp_path), None, frozenset(), problems.append, refused=HoleQuota().refused))
    finally:
        tool("umount", tmp_path)
    assert sorted(problem.path for problem in problems) == ["b", "b-again", "f"]
    assert [path_of(line) for line in lines] == [b".", b"a", b"a-again", b"c", b"d", b"e"]


COPY_HERE = """
import sys
from drbdbackup.pipeline.snapshot.copy_files import Copied, Copier, CopySettings, ResumeFile
from drbdbackup.pipeline.snapshot.copy_plain_files import PlainCopier
plain = PlainCopier(
    sys.argv[1], sys.argv[2], lambda *_: None, lambda *told: print(*sorted(told[3])), is_clone=False
)
plain.add(b"in/tool")
plain.finish()
"""
GIVE_HERE = """
import sys
from drbdbackup.manifest import Entry
from drbdbackup.pipeline.files.metadata import lacks, write_metadata
entry = Entry(
    kind=b"f", mode=0o6755, uid=1234, gid=1234, size=1, mtime=1, ctime=1, inode=1, nlink=1, rdev=0, path=b"in/tool",
)
print(*lacks(write_metadata(sys.argv[2] + "/in/tool", entry, {})))
"""


def test_what_cannot_have_its_owner_does_not_run_as_root(played: Played) -> None:
    """Its owner is not known where it is copied: the kernel refuses him there, as it does one over a quota."""
    for root in (played.source, played.target):
        (root / "in").chmod(0o755)
    (played.source / "in/tool").write_text("x")
    os.chown(played.source / "in/tool", 1234, 1234)
    (played.source / "in/tool").chmod(0o6755)
    for script, said in ((COPY_HERE, "mode owner\n"), (GIVE_HERE, "owner\n")):
        ended = subprocess.run(
            ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, played.source, played.target],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        seen = (played.target / "in/tool").stat()
        assert (seen.st_uid, seen.st_mode & 0o7777, ended.stdout) == (0, 0o755, said)


def test_what_comes_from_a_share_without_owners_does_not_run_as_root_meanwhile(played: Played) -> None:
    (played.source / "in/tool").write_text("x")
    (played.source / "in/tool").chmod(0o6755)
    listing = played.source / "listing"
    listing.write_bytes(rsync.listing([b"in", b"in/tool"]))
    holds = rsync.Holds(owners=False)
    command = rsync.restoring(f"{played.source}/", f"{played.target}/", holds, over=True, listing=str(listing))
    subprocess.run(command.argv, check=True, timeout=60, capture_output=True)
    assert (played.target / "in/tool").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(("holds", "kept"), [(rsync.Holds(), 0), (rsync.Holds(owners=False, xattrs=False), 4000)])
def test_what_is_written_down_as_it_comes_is_each_entry_once_and_in_order(
    tmp_path: Path, holds: rsync.Holds, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symlink waits for rsync, and with it what comes after. With rsync alone, each 2000 entries are kept, once their
    content is on the medium.
    """
    log = tmp_path / "synced"
    play(tmp_path / "sync", f"#!/bin/sh\ntouch {tmp_path}/kept; wc -l <{tmp_path}/kept >>{log}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    source, scratch, copy = tmp_path / "source", tmp_path / "scratch", tmp_path / "copy"
    for folder in (source, scratch, copy):
        folder.mkdir()
    for number in range(4100):
        (source / f"{number:04}").touch()
    (source / "2500+").symlink_to("0000")
    lines = list(Walk(str(source), None, frozenset(), lambda one: pytest.fail(str(one))))[1:]
    place = CopySettings(source=str(source), data=str(copy), scratch=str(scratch), holds=holds, started_ns=1 << 62)
    resume = ResumeFile(str(tmp_path / "kept"), lambda some: some + b"signed\n" * (some.count(b"\n") <= 1000))
    copier = Copier(place, "record", Copied(), lambda: None, resume)
    for line in lines:
        copier.add(path_of(line), line)
    copier.close()
    written = (scratch / "record").read_bytes().splitlines(keepends=True)
    assert [split(line)[1] for line in written] == lines
    if kept:
        noted = (tmp_path / "kept").read_bytes().splitlines(keepends=True)
        assert noted.count(b"signed\n") == kept // 1000
        assert log.read_text().split() == ["0", "2002"]
        assert [line for line in noted if line != b"signed\n"] == written[:kept]
