"""A volume that is a real mount of a block device, as on a pair, and a run that has begun to copy it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import preloaded
from tests.played_media import disk_image, mounted, nothing_is_left, share, tool, unmount, wait_for
from tests.played_pair import PlayedPair
from tests.settled import wait_until_settled

FILES = 60  # of 1 MiB


@contextmanager
def on_a_device(tmp_path: Path) -> Iterator[PlayedPair]:
    """A pair whose volume is mounted from a loop device, with 60 MiB in it; nothing of it is left afterwards."""
    image = tmp_path / "volume.img"
    tool("cp", "--sparse=always", first_image(tmp_path.parent), image)
    device = tool("losetup", "--find", "--show", image).strip()
    played = PlayedPair(tmp_path)
    played.resource = f'device = "{device}"'
    tool("mount", device, played.volume)
    try:
        wait_until_settled(played.volume)
        yield played
    finally:
        while os.path.ismount(played.volume):
            unmount(played.volume)
        tool("losetup", "--detach", device)
    assert nothing_is_left(tmp_path)


def first_image(folder: Path) -> Path:
    """The image of a volume, made by the first test that wants one: in its copies the files are as old as in itself."""
    image = folder / "first-volume.img"
    if not image.exists():
        made = disk_image(folder / "first-volume.made", "ext4", "200M")
        with mounted(made, folder / "first-volume", "loop") as volume:
            for number in range(FILES):
                (volume / f"file-{number}").write_bytes(os.urandom(1 << 20))
        made.rename(image)
    return image


@contextmanager
def under_way(pair: PlayedPair) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun to copy."""
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PATH": pair.path or os.environ["PATH"]},
    )  # fmt: skip
    try:
        resource = pair.folder / "nas/drbdbackup/raid"
        wait_for(lambda: [*resource.glob(".partial-*/data/file-*"), *resource.glob(".partial-*/data/.file-*")], "files")
        yield run
    finally:
        run.kill()
        run.wait()


@contextmanager
def on_a_slow_nas(pair: PlayedPair) -> Iterator[None]:
    """The pair's share is one on which a run takes eight seconds."""
    pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/nas"'
    with share(pair.folder / "nas", pair.folder / "behind", "--write-rate=8M"):
        yield


def is_free(device: str) -> bool:
    """Whether the device could be taken away: an exclusive open is what a demotion needs."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True
