"""What the lab wants of this machine. What is missing is told before anything is started, all of it at once."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.image import cache

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "vde_switch": "vde2", "ssh": "openssh-client",
    "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "cpio": "cpio", "depmod": "kmod", "setpriv": "util-linux",
    "rclone": "rclone", "socat": "socat",
}  # fmt: skip
MEMORY = 2.0  # GiB that must be free for a lab: the three guests, and QEMU's own
SAVED = 7.0  # GiB below /var/tmp for the states that all labs share; all eight take 5.8
DISK = 2.0  # GiB there for each lab's own disks
CACHE = 4.0  # GiB for the image while it is built
DEVICES = ("/dev/null", "/dev/urandom", "/dev/ptmx")


class HostLacks(Exception):
    """The lab cannot run here; the text is a list of what is missing."""


def must_do(labs: int = 1) -> None:
    """Raises HostLacks unless this machine has all that so many labs need."""
    if lacks := list(missing(labs)):
        raise HostLacks("The lab cannot run here:\n" + "\n".join(f"  {line}" for line in lacks))


def missing(labs: int) -> Iterator[str]:
    if platform.machine() != "x86_64":
        yield f"the guests are amd64, and this is {platform.machine()}"
    if os.geteuid() != 0:
        yield "not root: the guests' file system has owners of its own"
    for program, package in PROGRAMS.items():
        if not shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            yield f"{program} is not installed: apt install {package}"
    for device in DEVICES:
        if not Path(device).is_char_device():
            yield f"{device} is no device"
    if (free := memory()) < labs * MEMORY:
        yield f"{free:.1f} GiB of memory are free, {labs * MEMORY:g} are needed"
    for folder, needed in ((cache(), CACHE), (Path("/var/tmp"), SAVED + labs * DISK)):
        if (free := room(folder)) < needed:
            yield f"{free:.1f} GiB are free below {folder}, {needed:g} are needed"


def memory() -> float:
    """GiB that programs can have without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    return 0.0


def room(folder: Path) -> float:
    """GiB below a folder that need not be there yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free / 2**30
