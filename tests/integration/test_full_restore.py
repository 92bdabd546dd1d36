"""A restore to where there is no room for it says so beforehand, in words and in its document."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.played_media import disk_image, mounted, tool
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
        assert told["error"]["code"] == "destination.full"
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
