"""A disk and its clone in one machine. The real lsblk is asked, with what udev has written of both."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_media import disk_image, nothing_is_left, tool
from tests.played_pair import PlayedPair

# $1 is a folder with the files of udev's database.
WITH_UDEV = 'mkdir -p /run/udev && mount -t tmpfs tmpfs /run/udev && cp -r "$0" /run/udev/data && exec "$@"'


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """The disk has a name in /dev/disk/by-id, as it were."""
    os.mkdir(tmp_path / "udev")
    played = PlayedPair(tmp_path)
    played.under = ("unshare", "--mount", "sh", "-c", WITH_UDEV, str(tmp_path / "udev"))
    played.add_disk("disk", str(tmp_path / "by-id"))
    (tmp_path / "by-id").symlink_to(plugged_in(played, disk_image(tmp_path / "disk.img")))
    (played.volume / "page").write_bytes(b"x" * 1000)
    yield played
    for image in tmp_path.glob("*.img"):
        unplugged(image)
    assert nothing_is_left(tmp_path)


def plugged_in(pair: PlayedPair, image: Path) -> str:
    device = tool("losetup", "--find", "--show", image).strip()
    uuid = tool("blkid", "--probe", "--output", "value", "--match-tag", "UUID", image).strip()
    number = os.stat(device).st_rdev
    told = f"I:1\nE:ID_FS_UUID={uuid}\nE:ID_FS_UUID_ENC={uuid}\nE:ID_FS_TYPE=ext4\n"
    (pair.folder / "udev" / f"b{os.major(number)}:{os.minor(number)}").write_text(told)
    return device


def unplugged(image: Path) -> None:
    for line in tool("losetup", "--associated", image).splitlines():
        tool("losetup", "--detach", line.partition(":")[0])


def judged(pair: PlayedPair) -> str:
    """What `doctor` says of the disk."""
    checks = json.loads(pair.run("www4", "doctor", "--json").stdout)["checks"]
    [state] = [one["state"] for one in checks if (one["check"], one["about"]) == ("target", "disk")]
    return str(state)


def test_nothing_is_written_while_both_are_there_and_both_are_named(pair: PlayedPair) -> None:
    pair.backs_up()
    assert judged(pair) == "ok"
    shutil.copy(pair.folder / "disk.img", pair.folder / "clone.img")
    clone = plugged_in(pair, pair.folder / "clone.img")
    [run] = pair.json("www4", "run", status=3)["runs"]
    [wrong] = [one["error"] for one in run["targets"] if one["error"]]
    assert wrong["code"] == "target.cloned"
    assert clone in wrong["message"]
    assert judged(pair) == "fail"
    restore = pair.json("www4", "restore", "--from", "disk", "--to", str(pair.folder / "restored"), "--yes")
    assert restore["plan"]["copy"]["target"] == "disk", "what is only read is read"
    unplugged(pair.folder / "clone.img")
    (pair.folder / "udev" / f"b{os.major(os.stat(clone).st_rdev)}:{os.minor(os.stat(clone).st_rdev)}").unlink()
    pair.backs_up()
