"""A restore to where there is no room for it says so beforehand, in words and in its document."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.played_media import disk_image, mounted, share, stopped, tool, weak_share
from tests.played_pair import PlayedPair


def test_a_restore_that_does_not_fit_says_how_much_is_missing(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "large").write_bytes(os.urandom(3 << 20))
    (pair.volume / "folder").mkdir()
    (pair.volume / "folder/small").write_text("small")
    pair.backs_up()
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True, timeout=30)
    try:
        planned = pair.json("www4", "restore", "--dry-run", "--to", str(small))["plan"]
        said = "it needs 3.0 MiB, and 1.0 MiB are free there: 2.0 MiB are missing"
        assert said in planned["warnings"]
        assert (2 << 20) <= planned["missing_bytes"] < (2 << 20) + 8192
        assert f"WARNING: {said}" in pair.run("www4", "restore", "--dry-run", "--to", str(small)).stdout
        refused = pair.run("www4", "restore", "--to", str(small), "--yes")
        assert refused.returncode == 1
        assert said in refused.stderr
        assert os.listdir(small) == []
        subprocess.run(["mount", "-o", "remount,nr_inodes=1", small], check=True, timeout=30)
        told = pair.json("www4", "restore", "--path", "folder/small", "--to", str(small), "--yes", status=1)
        assert (told["error"]["code"], "inodes" in told["error"]["message"]) == ("destination.full", True)
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", "--lazy", small], check=True, timeout=30)


def test_a_quota_is_not_called_a_full_disk(tmp_path: Path) -> None:
    """A btrfs subvolume that may hold 1 MiB, on a file system with room for all of it."""
    pair = PlayedPair(tmp_path)
    (pair.volume / "large").write_bytes(os.urandom(3 << 20))
    pair.backs_up()
    with mounted(disk_image(tmp_path / "disk.img", "btrfs"), tmp_path / "at", "loop") as at:
        tool("btrfs", "quota", "enable", at)
        tool("btrfs", "qgroup", "limit", "1M", "0/5", at)
        failed = pair.json("www4", "restore", "--to", str(at / "back"), "--yes", status=1)
    assert failed["error"]["code"] == "destination.full"
    assert "quota" in failed["error"]["message"]


def test_a_folder_whose_disk_fails_hangs_or_keeps_no_owners_is_told_as_that(tmp_path: Path) -> None:
    """And not as rsync says it, with a path below /proc; nor is each file called immutable."""
    pair = PlayedPair(tmp_path)
    (pair.volume / "large").write_bytes(os.urandom(8 << 20))
    os.chown(pair.volume / "large", 1234, 1234)
    pair.backs_up()
    with weak_share(tmp_path / "at", tmp_path / "behind", writes=20, errno=5) as at:
        failed = pair.json("www4", "restore", "--to", str(at.path / "back"), "--yes", status=1)["error"]
    assert "where the restore goes: Input/output error" in failed["message"]
    assert "/proc" not in failed["message"]
    assert "dmesg" in failed["hint"]
    with weak_share(tmp_path / "at", tmp_path / "behind2") as at:
        ended = pair.run("www4", "restore", "--to", str(at.path / "back"), "--yes")
        assert (ended.returncode, "keep owners" in ended.stderr) == (1, True), ended.stderr
    with share(tmp_path / "at", tmp_path / "behind3") as at, stopped(at):
        failed = pair.json("www4", "restore", "--to", str(at.path / "back"), "--yes", status=1)["error"]
        assert "run" not in failed["hint"]
