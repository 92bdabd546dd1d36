"""A run whose volume or role goes away ends at once, says so, publishes nothing, and lets go of the device."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup.config.load import load
from drbdbackup.model.backup import Outcome
from drbdbackup.pipeline.backup import run as pipeline
from drbdbackup.pipeline.progress import SilentWatcher
from tests import preloaded
from tests.played_media import share, stopped, tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_volume import is_free, on_a_device, under_way


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    with on_a_device(tmp_path) as played:
        yield played


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


class Unmounts(SilentWatcher):
    """Somebody in whose eyes a target is given up, and who takes the volume away in that very moment."""

    def __init__(self, pair: PlayedPair) -> None:
        self.pair = pair

    def ended(self, target: str, outcome: str, message: str) -> None:
        if outcome == "failed":
            tool("umount", self.pair.volume)
            wait_for(lambda: is_free(self.pair.resource.split('"')[1]), "the device to be free")


def test_a_volume_that_goes_between_two_looks_at_it_interrupts_the_run_too(pair: PlayedPair) -> None:
    """Its processes are struck at once; whoever has had no last word is not done."""
    for name in ("nas", "dead"):
        pair.targets[name] = f'kind = "nas"\npath = "{pair.folder}/{name}"'
    pair.extra = '[limits]\nprobe = "1s"\nstall = "4s"'
    with (
        share(pair.folder / "nas", pair.folder / "behind", "--write-rate=4M"),
        share(pair.folder / "dead", pair.folder / "behind-dead") as dead,
        stopped(dead),
    ):
        config = load(str(pair.config("www4")))
        result = pipeline.run(config, config.resources[0], config.targets, Unmounts(pair))
    assert result.outcome is Outcome.INTERRUPTED
    assert [one.copy for one in result.targets] == [None, None]


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


def test_a_bare_mount_point_is_refused_where_no_device_is_configured_too(pair: PlayedPair) -> None:
    pair.resource = "require_mount = true"
    pair.backs_up()
    tool("umount", pair.volume)
    ended = pair.run("www4", "run")
    assert ended.returncode == 4
    assert "nothing is mounted" in ended.stderr
    assert len(pair.copies()) == 1


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
            verify = preloaded.Popen(
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


def test_a_restore_beside_does_not_keep_the_volumes_device(pair: PlayedPair) -> None:
    device = pair.resource.split('"')[1]
    pair.targets["nas"] = f'kind = "nas"\npath = "{pair.folder}/nas"'
    with share(pair.folder / "nas", pair.folder / "behind", "--read-rate=1M"):
        pair.backs_up()
        argv = pair.command("www4", "restore", "--yes", "--to", str(pair.folder / "back"))
        restore = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: [*pair.folder.glob("back/.file-*"), *pair.folder.glob("back/file-*")], "files to come")
            tool("umount", pair.volume)
            wait_for(lambda: is_free(device), "the device to be free", patience=15)
            assert restore.poll() is None, "the restore should be at work here"
        finally:
            restore.kill()
            restore.wait()


def in_a_cage(pid: int) -> bool:
    """Whether a descendant of the process has a mount table of its own, and works in it."""
    ours = os.readlink("/proc/self/ns/mnt")
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            at_work = Path(f"/proc/{child}/comm").read_text() == "cage: verify\n"
            if (at_work and os.readlink(f"/proc/{child}/ns/mnt") != ours) or in_a_cage(int(child)):
                return True
        except FileNotFoundError:
            continue
    return False
