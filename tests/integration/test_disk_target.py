"""A disk is mounted around its use and at no other time, whatever happens, and only the right one is."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import TargetError, TargetFull, TargetReadOnly
from drbdbackup.targets import target
from drbdbackup.tools import mounts
from tests import played_media as media


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[TargetConfig]:
    image = media.disk_image(tmp_path / "disk.img")
    yield TargetConfig(name="disk", kind="disk", device=str(image), mountpoint=str(tmp_path / "saving"))
    assert media.nothing_is_left(tmp_path)


def options_at(point: str) -> tuple[str, ...]:
    seen = mounts.mounted_at(mounts.table(), point)
    return seen.options if seen else ()


def test_it_is_mounted_for_the_time_of_the_block_and_no_program_on_it_can_be_run(saving: TargetConfig):
    with target(saving).opened("www4", write=True) as medium:
        assert {"rw", "nodev", "nosuid", "noexec"} <= set(options_at(medium.root))
        assert medium.fstype == "ext4"
    assert options_at(saving.mountpoint) == ()


def test_to_be_read_it_is_mounted_read_only(saving: TargetConfig):
    with target(saving).opened("www4", write=False) as medium:
        assert "ro" in options_at(medium.root)


def test_the_mountpoint_is_made_for_root_alone_and_stays_empty(saving: TargetConfig):
    with target(saving).opened("www4", write=True) as medium:
        Path(medium.root, "written").touch()
    assert os.stat(saving.mountpoint).st_mode & 0o777 == 0o700
    assert os.listdir(saving.mountpoint) == []


def test_what_lies_below_the_mountpoint_is_not_touched(saving: TargetConfig):
    os.mkdir(saving.mountpoint)
    Path(saving.mountpoint, "letter").write_text("dear sir")
    with target(saving).opened("www4", write=True) as medium:
        assert not Path(medium.root, "letter").exists()
    assert Path(saving.mountpoint, "letter").read_text() == "dear sir"


def test_a_failing_block_unmounts_it_and_tells_its_own_error(saving: TargetConfig):
    with pytest.raises(ZeroDivisionError), target(saving).opened("www4", write=True):
        _ = 1 / 0
    assert options_at(saving.mountpoint) == ()


@pytest.mark.parametrize("write", [True, False])
def test_a_disk_that_the_admin_has_mounted_there_is_covered_by_our_own_mount(saving: TargetConfig, write: bool):
    with media.mounted(saving.device, Path(saving.mountpoint)):
        Path(saving.mountpoint, "letter").write_text("dear sir")
        with target(saving).opened("www4", write=write) as medium:
            assert Path(medium.root, "letter").read_text() == "dear sir"
            assert {"rw" if write else "ro", "noexec"} <= set(options_at(medium.root))
        assert "noexec" not in options_at(saving.mountpoint)


def test_a_disk_that_the_admin_has_mounted_read_only_is_not_written_to(saving: TargetConfig):
    with media.mounted(saving.device, Path(saving.mountpoint), "ro"):
        with pytest.raises(TargetError, match="read-only"), target(saving).opened("www4", write=True):
            pass
        with target(saving).opened("www4", write=False) as medium:
            assert os.listdir(medium.root) == ["lost+found"]


@pytest.mark.parametrize("write", [True, False])
def test_a_disk_that_the_admin_has_mounted_elsewhere_is_used_beside_that(
    saving: TargetConfig, tmp_path: Path, write: bool
):
    with media.mounted(saving.device, tmp_path / "mnt"):
        (tmp_path / "mnt/letter").write_text("dear sir")
        with target(saving).opened("www4", write=write) as medium:
            assert Path(medium.root, "letter").read_text() == "dear sir"
            assert ("rw" if write else "ro") in options_at(medium.root)
        assert "rw" in options_at(str(tmp_path / "mnt"))


def opened(device: str, folder: str) -> None:
    """Open a disk to be written to; raises with the hint in its words."""
    config = TargetConfig(name="disk", kind="disk", device=device, mountpoint=f"{folder}/at")
    try:
        with target(config).opened("www4", write=True):
            return
    except TargetError as error:
        raise SystemExit(f"{error}\n{error.hint}") from None


def test_who_else_uses_a_disk_is_told_and_it_is_not_called_damaged(saving: TargetConfig, tmp_path: Path):
    loop = media.tool("losetup", "--find", "--show", saving.device).strip()
    config = replace(saving, device=loop)
    try:
        with media.mounted(loop, tmp_path / "mnt", "ro"):
            with pytest.raises(TargetReadOnly, match="read-only") as told, target(config).opened("www4", write=True):
                pass
            assert f"remount,rw {tmp_path}/mnt" in told.value.hint
        held = os.open(loop, os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(TargetError, match="in use") as told, target(config).opened("www4", write=True):
                pass
        finally:
            os.close(held)
        assert "fsck" not in told.value.hint
        opens = f"from tests.integration.test_disk_target import opened; opened({loop!r}, {str(tmp_path)!r})"
        weak = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", opens]
        ended = subprocess.run(weak, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
        assert "CAP_SYS_ADMIN" in ended.stderr, ended.stderr
    finally:
        media.tool("losetup", "--detach", loop)


def test_something_else_at_the_mountpoint_is_refused_and_left_alone(saving: TargetConfig, tmp_path: Path):
    other = media.disk_image(tmp_path / "other.img")
    with media.mounted(other, Path(saving.mountpoint)):
        with pytest.raises(TargetError, match="is mounted at") as refused, target(saving).opened("www4", write=True):
            pass
        assert "umount" in refused.value.hint
        assert len(media.mount_points(Path(saving.mountpoint))) == 1


def test_a_disk_with_a_journal_to_be_replayed_can_be_read(saving: TargetConfig, tmp_path: Path):
    with media.mounted(saving.device, tmp_path / "mnt"):
        (tmp_path / "mnt/letter").write_text("dear sir")
        media.tool("sync", "--file-system", tmp_path / "mnt")
        shutil.copyfile(saving.device, tmp_path / "after-power-cut.img")
    assert "needs_recovery" in media.tool("dumpe2fs", "-h", tmp_path / "after-power-cut.img")
    crashed = replace(saving, device=str(tmp_path / "after-power-cut.img"))
    with target(crashed).opened("www4", write=False) as medium:
        assert Path(medium.root, "letter").read_text() == "dear sir"
        with pytest.raises(OSError, match="Read-only"):
            Path(medium.root, "x").touch()


def test_a_write_protected_disk_is_refused_for_writing_and_can_be_read(saving: TargetConfig):
    device = media.tool("losetup", "--find", "--show", "--read-only", saving.device).strip()
    try:
        protected = replace(saving, device=device)
        with pytest.raises(TargetError), target(protected).opened("www4", write=True):
            pass
        with target(protected).opened("www4", write=False) as medium:
            assert os.listdir(medium.root) == ["lost+found"]
    finally:
        media.tool("losetup", "--detach", device)


def test_what_a_user_mounts_there_and_calls_like_the_disk_is_refused(
    saving: TargetConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    device = media.tool("losetup", "--find", "--show", saving.device).strip()
    monkeypatch.setenv("PLAYED_SOURCE", device)
    try:
        with media.weak_share(Path(saving.mountpoint), tmp_path / "his"):
            for write in (True, False):
                with pytest.raises(TargetError, match="mounted at"), target(
                    replace(saving, device=device)
                ).opened("www4", write=write):
                    pass
            assert os.listdir(tmp_path / "his") == []
    finally:
        media.tool("losetup", "--detach", device)


def test_a_missing_disk_is_told_with_what_to_look_at(saving: TargetConfig):
    with pytest.raises(TargetError, match="No such file") as told, target(
        replace(saving, device="/dev/disk/by-uuid/gone")
    ).opened("www4", write=True):
        pass
    assert "lsblk" in told.value.hint
    assert not os.path.exists(saving.mountpoint)


@pytest.mark.parametrize("what", ["an empty disk", "a folder", "a character device"])
def test_what_holds_no_file_system_is_told(saving: TargetConfig, tmp_path: Path, what: str):
    empty = tmp_path / "empty.img"
    empty.write_bytes(bytes(1 << 20))
    devices = {"an empty disk": empty, "a folder": tmp_path, "a character device": "/dev/null"}
    with pytest.raises(TargetError), target(replace(saving, device=str(devices[what]))).opened("www4", write=True):
        pass


@pytest.mark.parametrize("what", ["a file", "a symlink", "a dangling symlink"])
def test_a_mountpoint_that_is_no_folder_is_told(saving: TargetConfig, tmp_path: Path, what: str):
    point = Path(saving.mountpoint)
    if what == "a file":
        point.touch()
    else:
        point.symlink_to(tmp_path if what == "a symlink" else "nowhere")
    with pytest.raises(TargetError), target(saving).opened("www4", write=True):
        pass


def test_a_damaged_file_system_is_told_with_what_to_look_at(saving: TargetConfig):
    with open(saving.device, "r+b") as image:
        image.seek(1024 + 0x20)
        image.write(bytes(16))
    with pytest.raises(TargetError, match="could not be mounted") as told, target(saving).opened("www4", write=True):
        pass
    assert "fsck" in told.value.hint


def test_a_full_disk_is_told_and_unmounted(tmp_path: Path):
    image = media.disk_image(tmp_path / "small.img", size="8M")
    config = TargetConfig(name="disk", kind="disk", device=str(image), mountpoint=str(tmp_path / "saving"))
    with pytest.raises(OSError, match="No space") as told, target(config).opened("www4", write=True) as medium:
        Path(medium.root, "big").write_bytes(bytes(16 << 20))
    assert told.value.errno == errno.ENOSPC
    assert media.nothing_is_left(tmp_path)


def test_a_share_that_takes_no_more_when_all_is_to_be_written_is_full(tmp_path: Path):
    program = tmp_path / "bin/sync"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sync: error syncing: No space left on device' >&2\nexit 1\n")
    program.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", "from drbdbackup.targets import layout; layout.sync('/')"],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert TargetFull.__name__ in said.stderr


def test_a_program_that_lets_go_of_the_disk_late_does_not_keep_it_mounted(saving: TargetConfig):
    with target(saving).opened("www4", write=True) as medium:
        late = subprocess.Popen(["sleep", "1"], cwd=medium.root)
    assert options_at(saving.mountpoint) == ()
    late.wait()


def test_a_disk_that_stays_in_use_is_out_of_sight_and_told(saving: TargetConfig):
    with pytest.raises(TargetError, match="still in use") as told, target(saving).opened("www4", write=True) as medium:
        user = subprocess.Popen(["sleep", "600"], cwd=medium.root)
    user.kill()
    user.wait()
    assert options_at(saving.mountpoint) == ()
    assert "fuser" in told.value.hint
