"""What is removed is removed whole, and nothing else is: no symlink followed, no mount entered, no root left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup.errors import TargetError
from drbdbackup.targets import removal
from tests import played_media as media


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "root").mkdir()
    yield tmp_path / "root"
    assert media.nothing_is_left(tmp_path)


def remove(root: Path, path: bytes = b"tree") -> None:
    removal.remove_tree(str(root), path)


def test_a_tree_goes_and_its_neighbours_stay(root: Path):
    (root / "tree/a/b/c").mkdir(parents=True)
    (root / "tree/a/file").touch()
    (root / "tree2").mkdir()
    (root / "file").touch()
    remove(root)
    assert sorted(os.listdir(root)) == ["file", "tree2"]


def test_a_path_in_the_middle_goes_and_what_is_above_stays(root: Path):
    (root / "tree/a/b").mkdir(parents=True)
    remove(root, b"./tree//a/b")
    assert os.listdir(root / "tree/a") == []


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo", "device"])
def test_what_is_no_folder_goes_too(root: Path, kind: str):
    makers = {
        "file": lambda path: path.touch(), "symlink": lambda path: path.symlink_to("/etc"), "fifo": os.mkfifo,
        "device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 3)),
    }  # fmt: skip
    makers[kind](root / "tree")
    remove(root)
    assert os.listdir(root) == []


def test_hostile_names_go(root: Path):
    os.mkdir(root / "tree")
    for name in (b"-rf", b"\xff\xfe", b"new\nline", b" ", b"*", b"x" * 255, b"..."):
        os.mkdir(os.path.join(os.fsencode(root), b"tree", name))
        Path(os.fsdecode(os.path.join(os.fsencode(root), b"tree", name, b"-" + name[:200]))).touch()
    remove(root)
    assert os.listdir(root) == []


def test_what_is_gone_already_is_no_error(root: Path):
    remove(root)
    remove(root, b"no/such/path")
    (root / "file").touch()
    remove(root, b"file/below")
    assert os.listdir(root) == ["file"]


def test_symlinks_are_removed_and_not_followed(root: Path, tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/letter").touch()
    (root / "tree").mkdir()
    (root / "tree/out").symlink_to(tmp_path / "outside")
    remove(root)
    (root / "link").symlink_to(tmp_path / "outside")
    remove(root, b"link/letter")
    assert (tmp_path / "outside/letter").exists()
    assert os.listdir(root) == ["link"]


@pytest.mark.parametrize("path", [b"", b".", b"..", b"/etc", b"tree/../../x", b"./"])
def test_a_path_that_leaves_the_root_is_refused(root: Path, path: bytes):
    with pytest.raises(ValueError, match="does not lie below"):
        remove(root, path)


def test_a_tree_deeper_than_any_path_and_any_number_of_descriptors_goes(root: Path):
    fd = os.open(root, os.O_PATH)
    for name in ["tree", *["deep" * 20] * 3000]:
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    remove(root)
    assert os.listdir(root) == []


def test_a_folder_with_very_many_names_goes_without_much_memory(root: Path):
    script = """
import os, resource, sys
from drbdbackup.targets import removal
root = sys.argv[1]
os.makedirs(f"{root}/tree/folders")
for index in range(50_000):
    os.close(os.open(f"{root}/tree/{'name' * 30}{index}", os.O_CREAT))
for index in range(3_000):
    os.mkdir(f"{root}/tree/folders/{index}")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
removal.remove_tree(root, b"tree")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    said = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True, check=True)
    assert int(said.stdout) < 4096, "KiB more than before"
    assert os.listdir(root) == []


@pytest.mark.parametrize("bound", [True, False], ids=["the same file system", "another file system"])
def test_a_mount_in_the_tree_is_not_entered(root: Path, tmp_path: Path, bound: bool):
    (root / "tree/in/mnt").mkdir(parents=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/letter").touch()
    what = (tmp_path / "precious", root / "tree/in/mnt", "bind") if bound else ("tmpfs", root / "tree/in/mnt")
    if bound:
        with media.mounted(*what), pytest.raises(TargetError, match="something is mounted there"):
            remove(root)
    else:
        media.tool("mount", "-t", "tmpfs", "tmpfs", root / "tree/in/mnt")
        (root / "tree/in/mnt/letter").touch()
        with pytest.raises(TargetError, match="something is mounted there"):
            remove(root)
        assert (root / "tree/in/mnt/letter").exists()
        media.unmount(root / "tree/in/mnt")
    assert (tmp_path / "precious/letter").exists()


def test_an_immutable_file_is_told_with_what_to_do(tmp_path: Path):
    with media.disk(tmp_path) as root:
        (root / "tree/a").mkdir(parents=True)
        (root / "tree/a/fixed").touch()
        media.tool("chattr", "+i", root / "tree/a/fixed")
        with pytest.raises(TargetError, match="tree/a/fixed' cannot be removed") as told:
            remove(root)
        assert "chattr -i" in told.value.hint
        media.tool("chattr", "-i", root / "tree/a/fixed")
        remove(root)
        assert os.listdir(root) == ["lost+found"]


def test_folders_that_may_not_be_written_go_from_a_share_that_squashes_root(tmp_path: Path):
    with media.weak_share(tmp_path / "share", tmp_path / "behind", "squashed") as share:
        (share.path / "tree/a/b").mkdir(parents=True)
        (share.path / "tree/a/b/file").touch()
        for mode, path in ((0o000, "tree/a/b"), (0o500, "tree/a"), (0o500, "tree")):
            (share.path / path).chmod(mode)
        with pytest.raises(PermissionError):
            (share.path / "tree/new").touch()
        remove(share.path)
        assert os.listdir(share.path) == []


def test_subvolumes_go_read_only_ones_and_those_in_others_too(tmp_path: Path):
    with media.disk(tmp_path, "btrfs") as root:
        (root / "tree/in").mkdir(parents=True)
        for path in ("tree/in/data", "tree/in/data/nested", "tree/in/data/nested/more"):
            media.tool("btrfs", "subvolume", "create", root / path)
        (root / "tree/in/data/nested/file").touch()
        for path in ("tree/in/data/nested/more", "tree/in/data/nested", "tree/in/data"):
            media.tool("btrfs", "property", "set", "-ts", root / path, "ro", "true")
        remove(root)
        assert os.listdir(root) == []
        assert media.tool("btrfs", "subvolume", "list", root) == ""


def test_a_subvolume_that_is_the_tree_itself_goes(tmp_path: Path):
    with media.disk(tmp_path, "btrfs") as root:
        media.tool("btrfs", "subvolume", "create", root / "tree")
        (root / "tree/file").touch()
        remove(root)
        assert os.listdir(root) == []


def test_a_removed_snapshot_has_lost_its_name_even_if_the_removal_is_stopped(tmp_path: Path):
    with media.disk(tmp_path) as root:
        (root / "snapshot/data").mkdir(parents=True)
        (root / "snapshot/data/fixed").touch()
        media.tool("chattr", "+i", root / "snapshot/data/fixed")
        with pytest.raises(TargetError):
            removal.retire(str(root), "snapshot")
        assert sorted(os.listdir(root)) == [".removing-snapshot", "lost+found"]
        media.tool("chattr", "-i", root / ".removing-snapshot/data/fixed")
        (root / "snapshot").mkdir()
        removal.retire(str(root), "snapshot")
        assert os.listdir(root) == ["lost+found"]


def test_sweeping_takes_what_removals_and_swaps_left_and_nothing_else(root: Path):
    for name in (".removing-a", ".removing-.partial-b", ".partial-c", "snapshot"):
        (root / name / "data").mkdir(parents=True)
    (root / ".latest.0a1b").symlink_to("snapshot")
    (root / "latest").symlink_to("snapshot")
    assert removal.sweep(str(root)) == (".latest.0a1b", ".removing-.partial-b", ".removing-a")
    assert sorted(os.listdir(root)) == [".partial-c", "latest", "snapshot"]
    assert removal.sweep(str(root / "nothing here")) == ()
