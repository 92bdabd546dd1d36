"""What cannot change within a run is asked once, and nothing is started that has nothing to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.played_media import disk_image
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts want root")


def counted(pair: PlayedPair, name: str) -> Callable[[], int]:
    """Put a program that counts before one of the system's; yields how often it was started since."""
    real, program, log = shutil.which(name), pair.folder / "bin" / name, pair.folder / f"{name}-started"
    assert real is not None
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho >>"{log}"\nexec {real} "$@"\n')
    program.chmod(0o755)
    pair.path = f"{program.parent}:{os.environ['PATH']}"

    def started() -> int:
        found = log.read_text().count("\n") if log.exists() else 0
        log.unlink(missing_ok=True)
        return found

    return started


def test_a_due_run_that_stands_down_asks_for_the_role_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    role = tmp_path / "role"
    role.write_text(f"#!/bin/sh\necho >>{asked}\necho Secondary\n")
    role.chmod(0o755)
    pair = PlayedPair(tmp_path, role=f'source = "command"\ncommand = ["{role}", "raid"]')
    assert [run["outcome"] for run in pair.json("www5", "run", "--if-due")["runs"]] == ["stood-down"]
    assert asked.read_text().count("\n") == 1


@as_root
def test_a_disk_is_looked_at_once_in_a_night(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, {"disk": ""})
    pair.add_disk("disk", str(disk_image(tmp_path / "disk.img")))
    started = counted(pair, "blkid")
    pair.backs_up()
    assert started() == 1


@as_root
def test_a_disk_without_a_file_system_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    pair = PlayedPair(tmp_path, {"disk": ""})
    pair.add_disk("disk", str(tmp_path / "disk.img"))
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert "holds no file system" in ended.stderr
    assert ended.stderr.index("e2fsck -n") < ended.stderr.index("mkfs"), "it may have held copies"

    entry = b"\0\0\x02\0\x83\xff\xff\xff" + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    with (tmp_path / "disk.img").open("r+b") as disk:  # /dev/sdb in place of /dev/sdb1
        disk.truncate(8 << 20)
        disk.seek(446)
        disk.write(entry + bytes(48) + b"\x55\xaa")
    ended = pair.run("www4", "run")
    assert (ended.returncode, "partitions" in ended.stderr, "mkfs" in ended.stderr) == (1, True, False), ended.stderr


def test_a_night_on_which_only_a_folder_changed_starts_no_rsync(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "www").mkdir()
    (pair.volume / "www/page").write_text("page")
    wait_until_settled(pair.volume)
    pair.backs_up()
    os.utime(pair.volume / "www", ns=(1, 1_400_000_000_987_654_321))
    started = counted(pair, "rsync")
    pair.backs_up()
    assert started() == 0
    assert differences(pair.volume, pair.newest("nas")) == []
