from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import xxhash

from drbdbackup.errors import TargetFull
from drbdbackup.pipeline.plain import Plain
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

        def keep(path: bytes, content: bytes, _: bytes) -> None:
            copied[path] = content

        plain = Plain(str(self.source), str(self.target), is_clone, self._came, keep)
        for path in paths:
            plain.add(path)
        plain.finish()
        return copied

    def _came(self, length: int) -> None:
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
