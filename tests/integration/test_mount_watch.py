"""The watch over the host's mount table sees a volume go, also if it looks only when it is there again."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from drbdbackup.pipeline.volume.mount_watch import MountWatch
from drbdbackup.tools import mount_ids, mounts
from tests.played_media import disk_image, mounted, tool, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting wants root")
HAS_LASTING_IDS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 8)


def test_a_mount_that_was_replaced_by_its_like_is_gone(tmp_path: Path) -> None:
    """Under load the watch comes late, and the new mount has the number of the old one."""
    image, gone = disk_image(tmp_path / "image"), threading.Event()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with mounted(image, tmp_path / "volume", "loop") as volume:
        watch = MountWatch(str(volume), gone.set)
        device = watch.mount.source if watch.mount else ""
        keeps = tmp_path / "keeps"
        with mounted(device, keeps):  # else the loop device goes, too
            tool("umount", volume)
            tool("mount", device, volume)
        if HAS_LASTING_IDS or mounts.mounted_at(mounts.table(), str(volume)) != watch.mount:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))  # others have taken all
            try:
                watch.start()
                wait_for(gone.is_set, "the watch to see it", patience=10)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert watch.is_gone
        watch.stop()


def test_other_changes_of_the_table_say_nothing(tmp_path: Path) -> None:
    image, gone = disk_image(tmp_path / "image"), threading.Event()
    with mounted(image, tmp_path / "volume", "loop") as volume:
        watch = MountWatch(str(volume), gone.set)
        watch.start()
        for number in range(3):
            with mounted(volume, tmp_path / f"other-{number}", "bind"):
                pass
            tool("mount", "-o", f"remount,{('ro', 'rw', 'noatime')[number]}", volume)
        watch.stop()
    assert not gone.is_set()


@pytest.mark.skipif(not HAS_LASTING_IDS, reason="Linux 6.8")
def test_each_mount_has_an_id_that_lasts() -> None:
    ids = [mount_ids.lasting_id(mount.mount_id) for mount in mounts.table()[1:]]
    assert None not in ids
    assert len(set(ids)) == len(ids)
    assert all(mount_ids.is_there(one) for one in ids if one is not None)
    assert not mount_ids.is_there(max(one for one in ids if one is not None) + 1_000_000)
