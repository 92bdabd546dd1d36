"""A medium that fails in mid-copy: the run ends in time, the other target is completed, and the next run heals."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import preloaded
from tests.played_media import (
    disk_image,
    mount_points,
    mounted,
    nothing_is_left,
    share,
    stopped,
    tool,
    unmount,
    wait_for,
    weak_share,
)
from tests.played_pair import PlayedPair, differences
from tests.played_terminal import at_a_terminal
from tests.settled import settled_volume

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN of linux/fs/ext4/ext4.h: from then on every access is EIO
NO_LOG_FLUSH = 2
LARGE = 200 << 20
SOON = '[limits]\nstall = "4s"\nprobe = "1s"'  # a share that hangs is given up


def thirty_files(volume: Path) -> None:
    for number in range(30):
        (volume / f"file-{number}").write_text(f"{number}" * 5000)


def thirty_others(volume: Path) -> None:
    for number in range(30):
        (volume / f"file-{number}").write_text(f"file-{number}" * 3000)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PlayedPair]:
    disk_image(tmp_path / "disk.img", size="800M")
    tool("tune2fs", "-e", "remount-ro", tmp_path / "disk.img")
    played = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas"'})
    played.add_disk("disk", str(tmp_path / "disk.img"))
    played.extra = '[limits]\nstall = "10s"\nprobe = "2s"'
    settled_volume(played.volume, thirty_files)
    yield played
    assert nothing_is_left(tmp_path)


def grow(pair: PlayedPair) -> None:
    """Something that takes a while to be copied."""
    (pair.volume / "large").write_bytes(os.urandom(LARGE))


def in_mid_copy(pair: PlayedPair, root: Path) -> subprocess.Popen[str]:
    """A run whose copy of the large file on the target at `root` has begun."""
    run = preloaded.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    wait_for(lambda: large_files(root), "the large file to be under way")
    return run


def large_files(root: Path) -> list[Path]:
    return list(root.glob("drbdbackup/raid/.partial-*/data/large"))


def ended(run: subprocess.Popen[str], within: float = 60.0) -> tuple[int, str]:
    _, said = run.communicate(timeout=within)
    assert "Traceback" not in said
    return run.returncode, said


def restores_from(pair: PlayedPair, target: str) -> None:
    restored = pair.folder / f"from-{target}"
    done = pair.run("www4", "restore", "--from", target, "--to", str(restored), "--yes")
    assert done.returncode == 0, done.stderr
    assert differences(pair.volume, restored) == []
    shutil.rmtree(restored)


def heals(pair: PlayedPair, target: str, kept: list[str]) -> None:
    """The last good copy is as it was; the next run is complete and leaves nothing half-made anywhere."""
    assert [copy["snapshot"] for copy in pair.copies(target=target)] == kept
    assert pair.run("www4", "verify", "--target", target, kept[0]).returncode == 0
    pair.backs_up()
    restores_from(pair, target)
    assert [path.name for path in (pair.folder / "behind/drbdbackup/raid").glob(".*")] == []
    wait_for(lambda: nothing_is_left(pair.folder / "disk.img"), "the disk to be free")
    with mounted(pair.folder / "disk.img", pair.folder / "look", "loop", "ro") as at:
        assert [path.name for path in (at / "drbdbackup/raid").glob(".*")] == []


def names(pair: PlayedPair, target: str) -> list[str]:
    return [copy["snapshot"] for copy in pair.copies(target=target)]


def failing_disk(pair: PlayedPair, fail: Callable[[Path], object]) -> tuple[int, str]:
    """A run during which the disk fails; what it said. The admin has the disk mounted as well, to see into it."""
    look = pair.folder / "look"
    with mounted(pair.folder / "disk.img", look, "loop"):
        run = in_mid_copy(pair, look)
        fail(look)
        return ended(run)


def pull_out(at: Path) -> None:
    folder = os.open(at, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(folder)


def turn_read_only(at: Path) -> None:
    """What the kernel does when it finds the file system damaged."""
    tool("mount", "-o", "remount,abort", at)


@pytest.mark.parametrize("fail", [pull_out, turn_read_only])
def test_a_disk_that_fails_in_mid_copy_leaves_the_nas(pair: PlayedPair, fail: Callable[[Path], object]) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        kept = names(pair, "disk")
        grow(pair)
        status, said = failing_disk(pair, fail)
        assert status == 3, said
        assert "disk: " in said
        assert "dmesg" in said
        restores_from(pair, "nas")
        subprocess.run(["e2fsck", "-fp", pair.folder / "disk.img"], capture_output=True, timeout=60)
        heals(pair, "disk", kept)


def test_a_share_that_hangs_in_mid_copy_leaves_the_disk(pair: PlayedPair) -> None:
    """Whoever looks on sees meanwhile that nothing moves."""
    with share(pair.folder / "nas", pair.folder / "behind") as served, ExitStack() as stack:
        pair.backs_up()
        kept = names(pair, "nas")
        pair.extra = SOON
        grow(pair)

        def hangs() -> bytes:
            wait_for(lambda: large_files(pair.folder / "behind"), "the large file to be under way")
            stack.enter_context(stopped(served))
            return b""

        command = shlex.join(pair.command("www4", "run"))
        status, said = at_a_terminal(command, [("raid to nas", hangs), ("no progress for", lambda: b"")])
        assert status == 3, said
        assert "no progress for" in said
        assert "raid: nas: nothing moved for" in said
        assert "Check the disk" in said
        restores_from(pair, "disk")
        stack.close()
        heals(pair, "nas", kept)


def test_a_share_that_hangs_longer_than_a_run_may_take_ends_with_the_run(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind") as served:
        pair.backs_up()
        kept = names(pair, "nas")
        pair.extra = '[limits]\nstall = "10m"\nrun = "8s"\nprobe = "1s"'
        grow(pair)
        begun = time.monotonic()
        run = in_mid_copy(pair, pair.folder / "behind")
        with stopped(served):
            status, said = ended(run)
            assert 8 <= time.monotonic() - begun < 33
            assert status == 3, said
            assert "nas: the run's time is over" in said
            restores_from(pair, "disk")
        heals(pair, "nas", kept)


def test_a_share_that_is_unmounted_in_mid_copy_gets_all_or_nothing_and_its_folder_stays_empty(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind"):
        pair.backs_up()
        kept = names(pair, "nas")
        grow(pair)
        run = in_mid_copy(pair, pair.folder / "behind")
        while str(pair.folder / "nas") in mount_points(pair.folder):
            unmount(pair.folder / "nas")
        status, said = ended(run)
        assert status in (0, 3), said
        assert os.listdir(pair.folder / "nas") == []
        restores_from(pair, "disk")
    with share(pair.folder / "nas", pair.folder / "behind"):
        found = names(pair, "nas")
        assert len(found) == len(kept) + (status == 0)
        heals(pair, "nas", found)


@pytest.mark.parametrize("writes", [0, 1, 20, 45, 75])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_share_may_fail_at_any_write(pair: PlayedPair, writes: int, number: int) -> None:
    with weak_share(pair.folder / "nas", pair.folder / "behind", "squashed"):
        pair.backs_up()
        kept = names(pair, "nas")
    shutil.rmtree(pair.volume)
    settled_volume(pair.volume, thirty_others)
    with weak_share(pair.folder / "nas", pair.folder / "behind", "squashed", writes=writes, errno=number):
        failed = pair.run("www4", "run")
        assert failed.returncode == 3, failed.stderr
        assert "nas: " in failed.stderr
        if number == errno.ENOSPC:
            assert list((pair.folder / "behind/drbdbackup/raid").glob(".partial-*")) == [], "it would keep it full"
        restores_from(pair, "disk")
    with weak_share(pair.folder / "nas", pair.folder / "behind", "squashed"):
        heals(pair, "nas", kept)
