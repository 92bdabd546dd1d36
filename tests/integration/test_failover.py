"""A run whose volume or role goes away ends at once, says so, publishes nothing, and lets go of the device."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.played_media import disk_image, nothing_is_left, share, stopped, tool, unmount, wait_for
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    """The volume is a real mount of a block device, as on a pair; the NAS is a pipe's speed away from full."""
    image = disk_image(tmp_path / "volume.img", "ext4", "200M")
    device = tool("losetup", "--find", "--show", image).strip()
    played = PlayedPair(tmp_path)
    played.resource = f'device = "{device}"'
    tool("mount", device, played.volume)
    try:
        for number in range(60):
            (played.volume / f"file-{number}").write_bytes(os.urandom(1 << 20))
        wait_until_settled(played.volume)
        yield played
    finally:
        while os.path.ismount(played.volume):
            unmount(played.volume)
        tool("losetup", "--detach", device)
    assert nothing_is_left(tmp_path)


@contextmanager
def under_way(pair: PlayedPair) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun to copy."""
    run = subprocess.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        resource = pair.folder / "nas/drbdbackup/raid"
        wait_for(lambda: [*resource.glob(".partial-*/data/file-*"), *resource.glob(".partial-*/data/.file-*")], "files")
        yield run
    finally:
        run.kill()
        run.wait()


def test_an_unmounted_volume_interrupts_the_run_and_is_free_at_once(pair: PlayedPair) -> None:
    device = pair.resource.split('"')[1]
    with under_way(pair) as run:
        run.send_signal(0)
        tool("umount", pair.volume)
        began = time.monotonic()
        wait_for(lambda: is_free(device), "the device to be free", patience=10)
        assert time.monotonic() - began < 10
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "unmounted" in said
    assert pair.run("www4", "latest").returncode == 6
    tool("mount", device, pair.volume)
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_a_volume_that_was_away_for_a_moment_interrupts_the_run_too(pair: PlayedPair) -> None:
    """What the cages read meanwhile may have been the bare folder."""
    device = pair.resource.split('"')[1]
    with under_way(pair) as run:
        tool("umount", pair.volume)
        tool("mount", device, pair.volume)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert pair.run("www4", "latest").returncode == 6


def is_free(device: str) -> bool:
    """Whether the device could be taken away: an exclusive open is what a demotion needs."""
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True


def test_a_role_that_changed_meanwhile_publishes_nothing(pair: PlayedPair) -> None:
    with under_way(pair) as run:
        pair.roles("www5")
        _, said = run.communicate(timeout=60)
    assert run.returncode == 7, said
    assert "Secondary" in said
    assert pair.run("www4", "latest").returncode == 6


def test_a_primary_without_its_device_mounted_is_refused(pair: PlayedPair) -> None:
    tool("umount", pair.volume)
    ended = pair.run("www4", "run")
    assert ended.returncode == 4
    assert "nothing is mounted" in ended.stderr
    assert not (pair.folder / "nas/drbdbackup").exists()


def test_another_device_in_its_place_is_refused(pair: PlayedPair) -> None:
    device = pair.resource.split('"')[1]
    pair.resource = 'device = "/dev/loop-control"'
    ended = pair.run("www4", "run")
    assert ended.returncode == 4, device
    assert "loop" in ended.stderr


def test_a_verify_that_hangs_does_not_keep_the_volumes_device(pair: PlayedPair) -> None:
    """A cage's copy of the mount must not outlive the host's, where `/` is private."""
    device = pair.resource.split('"')[1]
    pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/nas"'
    pair.extra = '[limits]\nprobe = "30s"'
    with share(pair.folder / "nas", pair.folder / "behind") as served:
        pair.backs_up()
        with stopped(served):
            verify = subprocess.Popen(
                pair.command("www4", "verify"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                wait_for(lambda: in_a_cage(verify.pid), "a cage")
                tool("umount", pair.volume)
                wait_for(lambda: is_free(device), "the device to be free", patience=15)
                assert verify.poll() is None, "the verify should hang here"
            finally:
                verify.kill()
                verify.wait()


def in_a_cage(pid: int) -> bool:
    """Whether a descendant of the process has a mount table of its own, and works in it."""
    ours = os.readlink("/proc/self/ns/mnt")
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            with_python = b"drbdbackup.pipeline.caged" in Path(f"/proc/{child}/cmdline").read_bytes()
            if (with_python and os.readlink(f"/proc/{child}/ns/mnt") != ours) or in_a_cage(int(child)):
                return True
        except FileNotFoundError:
            continue
    return False
