"""What the tests say when a loop device does not go: who keeps it, also a process with a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.holders import holders
from tests.played_media import disk_image, loop_devices, tool, unmount, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts want root")
OPENS = "import sys, time; file = open(sys.argv[1]); print(flush=True); time.sleep(600)"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Path]:
    disk_image(tmp_path / "disk.img", "ext4")
    (tmp_path / "at").mkdir()
    tool("mount", "-o", "loop", tmp_path / "disk.img", tmp_path / "at")
    (tmp_path / "at/file").touch()
    yield tmp_path / "at"
    wait_for(lambda: not loop_devices(tmp_path), "the device to go")


@pytest.mark.parametrize(("before", "opened", "why"), [
    (("unshare", "--mount"), "/dev/null", "mount {at}"),
    ((), "{at}/file", " -> "),
])  # fmt: skip
def test_who_keeps_a_device_is_named(at: Path, before: tuple[str, ...], opened: str, why: str) -> None:
    argv = [*before, sys.executable, "-c", OPENS, opened.format(at=at)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout
        keeper.stdout.readline()
        unmount(at)
        [found] = holders(loop_devices(at.parent))
        keeper.kill()
    assert (found.pid, sys.executable in found.command) == (keeper.pid, True)
    assert why.format(at=at) in str(found)
