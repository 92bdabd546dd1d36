"""Whoever has the disk mounted may be told to stop, or be killed: its mount does not stay."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drbdbackup import proc
from drbdbackup.config.values import TargetConfig
from drbdbackup.errors import TargetError
from drbdbackup.targets import claim, target
from drbdbackup.tools import mounts
from tests import played_media as media

MOUNTS_IT = textwrap.dedent("""
    import signal
    import sys
    from drbdbackup import proc
    from drbdbackup.config.values import TargetConfig
    from drbdbackup.targets import target

    def stops_well():
        def stop(*_):
            for one in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(one, signal.SIG_IGN)
            raise SystemExit(128 + signal.SIGTERM)
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, stop)

    def main():
        device, mountpoint, marks = sys.argv[1:]
        config = TargetConfig(name="disk", kind="disk", device=device, mountpoint=mountpoint)
        stops_well()
        with target(config, marks or None).opened("www4", write=True) as medium:
            open(f"{medium.root}/written", "w").write("something")
            print("mounted", flush=True)
            sys.stdin.read()

    if sys.argv[1] == "caged":
        proc.pass_through_caged(proc.Job("cage: disk", ("__main__",), tuple(sys.argv[2:])), 60.0)
    else:
        main()
""")


@pytest.fixture
def saving(tmp_path: Path) -> Iterator[TargetConfig]:
    image = media.disk_image(tmp_path / "disk.img")
    yield TargetConfig(name="disk", kind="disk", device=str(image), mountpoint=str(tmp_path / "saving"))
    assert media.nothing_is_left(tmp_path)


@contextmanager
def mounting(config: TargetConfig, marks: str = "", caged: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the disk mounted, until it is told to end."""
    argv = (*(["caged"] if caged else []), config.device, config.mountpoint, marks)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", MOUNTS_IT, *argv], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "mounted\n"
            yield process
        finally:
            process.kill()


def options_at(point: str) -> tuple[str, ...]:
    seen = mounts.mounted_at(mounts.table(), point)
    return seen.options if seen else ()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unmounts_it(saving: TargetConfig, signum: signal.Signals):
    with mounting(saving) as process:
        process.send_signal(signum)
        assert process.wait(media.PATIENCE) == 128 + signal.SIGTERM
    assert options_at(saving.mountpoint) == ()


def test_a_second_signal_does_not_stop_the_unmounting(saving: TargetConfig):
    with mounting(saving) as process:
        for _ in range(20):
            process.send_signal(signal.SIGTERM)
        assert process.wait(media.PATIENCE) == 128 + signal.SIGTERM
    assert options_at(saving.mountpoint) == ()


def test_a_kill_in_a_cage_leaves_no_mount_and_no_loop_device(saving: TargetConfig, tmp_path: Path):
    assert proc.can_cage()
    with mounting(saving, caged=True) as process:
        assert media.loop_devices(tmp_path)
        assert options_at(saving.mountpoint) == (), "the host does not see what is mounted in the cage"
        process.kill()
        process.wait(media.PATIENCE)
    assert media.nothing_is_left(tmp_path)


def test_what_a_kill_without_a_cage_leaves_is_cleared_by_the_next_run(saving: TargetConfig, tmp_path: Path):
    marks = str(tmp_path / "state")
    with mounting(saving, marks) as process:
        process.kill()
        process.wait(media.PATIENCE)
    assert options_at(saving.mountpoint), "without a cage the mount outlives its maker"
    assert claim.clear(saving, marks) is True
    assert options_at(saving.mountpoint) == ()
    assert claim.clear(saving, marks) is False


def test_what_a_kill_has_left_is_cleared_when_the_disk_is_opened_too(saving: TargetConfig, tmp_path: Path):
    marks = str(tmp_path / "state")
    with mounting(saving, marks) as process:
        process.kill()
        process.wait(media.PATIENCE)
    with target(saving, marks).opened("www4", write=True) as medium:
        assert media.mount_points(Path(medium.root)) == [medium.root]


def test_without_a_cage_two_runs_do_not_share_the_disk(saving: TargetConfig, tmp_path: Path):
    marks = str(tmp_path / "state")
    with mounting(saving, marks):
        with pytest.raises(TargetError, match="in use by another"):
            claim.clear(saving, marks)
        with pytest.raises(TargetError, match="in use by another"), target(saving, marks).opened("www4", write=True):
            pass
        assert options_at(saving.mountpoint), "the other one keeps its mount"
        media.unmount(Path(saving.mountpoint))


def test_the_admins_own_mount_is_never_cleared(saving: TargetConfig, tmp_path: Path):
    marks = str(tmp_path / "state")
    with media.mounted(saving.device, Path(saving.mountpoint)):
        with target(saving, marks).opened("www4", write=True):
            assert len(media.mount_points(Path(saving.mountpoint))) == 2
        assert claim.clear(saving, marks) is False
        assert len(media.mount_points(Path(saving.mountpoint))) == 1


def test_a_mark_of_another_boot_says_nothing_about_what_is_mounted_now(saving: TargetConfig, tmp_path: Path):
    marks = tmp_path / "state"
    with mounting(saving, str(marks)) as process:
        process.kill()
        process.wait(media.PATIENCE)
    mark = marks / "mounted-disk"
    mark.write_text(mark.read_text().replace('"boot": "', '"boot": "x'))
    assert claim.clear(saving, str(marks)) is False
    assert options_at(saving.mountpoint)
    media.unmount(Path(saving.mountpoint))


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"point": 3}', '{"point": "/", "device": "/", "before": []}'])
def test_a_torn_mark_is_as_good_as_none(saving: TargetConfig, tmp_path: Path, content: str):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/mounted-disk").write_text(content)
    assert claim.clear(saving, str(tmp_path / "state")) is False
