"""Media played on one machine: disks that are image files, shares that are FUSE mounts and keep less than they should.

Everything is a context manager that leaves no mount, no loop device and no process, also after a failed test. Nothing
here uses the code under test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drbdbackup.catalog import local
from tests.holders import holders

PATIENCE = 60.0
SIZES = {"ext4": "48M", "btrfs": "128M"}
MAKERS = {"ext4": ("mkfs.ext4", "-q", "-F"), "btrfs": ("mkfs.btrfs", "-q", "-f")}

# What bindfs(1) is told to play a share that keeps less.
REFUSES_OWNERS = ("--chown-deny", "--chgrp-deny")
IGNORES_OWNERS = ("--chown-ignore", "--chgrp-ignore")
IGNORES_MODES = ("--chmod-ignore",)
KEEPS_NO_XATTRS = ("--xattr-none",)
SHOWS_OLD_ATTRIBUTES = ("-o", "attr_timeout=60")
HIDES_HARD_LINKS = ("--hide-hard-links",)


@dataclass(frozen=True)
class Share:
    """A FUSE share that is mounted at `path` and shows `behind`; `pid` serves it."""

    path: Path
    behind: Path
    pid: int


def disk_image(path: Path, fstype: str = "ext4", size: str = "") -> Path:
    """An image file with a new file system (in place of what was there), as a disk target's device."""
    path.unlink(missing_ok=True)
    tool("truncate", "--size", size or SIZES[fstype], path)
    tool(*MAKERS[fstype], path)
    return path


def give_new_uuid(image: Path | str) -> None:
    """What a clone is given so that both can be mounted: everything on the ext4 stays, its UUID does not."""
    wait_for(lambda: str(image) not in loop_devices(Path(image).parent), f"the loop device of {image} to go")
    subprocess.run(["e2fsck", "-fp", str(image)], capture_output=True, timeout=60)
    tool("tune2fs", "-U", "random", image)


@contextmanager
def mounted(device: Path | str, at: Path, *options: str) -> Iterator[Path]:
    """A device or image file mounted at a folder by the admin (not by the code under test)."""
    at.mkdir(parents=True, exist_ok=True)
    tool("mount", *(("-o", ",".join(options)) if options else ()), device, at)
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def disk(folder: Path, fstype: str = "ext4", size: str = "") -> Iterator[Path]:
    """A new file system mounted at `<folder>/<fstype>`, as a place to write to; its image lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    image = disk_image(folder / f"{fstype}.img", fstype, size)
    with mounted(image, folder / fstype, "loop") as at:
        yield at


@contextmanager
def share(at: Path, behind: Path, *weaknesses: str) -> Iterator[Share]:
    """The folder `behind` as a share mounted at `at`, with bindfs options for what it does not keep."""
    with _served(["bindfs", "-f", *weaknesses, str(behind), str(at)], at, behind) as played:
        yield played


@contextmanager
def slow_share(at: Path, behind: Path, microseconds: int) -> Iterator[Share]:
    """The same with each answer so much later, as a NAS is slower than a disk. Answers come one after the other."""
    delay = f"writev:delay_enter={microseconds}"
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=writev", "-e", f"inject={delay}"]
    with _served([*strace, "bindfs", "-f", str(behind), str(at)], at, behind) as played:
        yield played


@contextmanager
def weak_share(
    at: Path, behind: Path, kind: str = "simple", *, writes: int | None = None, errno: int = 28, stops_at: str = ""
) -> Iterator[Share]:
    """A share that refuses what it does not keep.

    "simple" is as CIFS or exFAT are: no links of any kind, no owners, modes, xattrs or devices, names fold case.
    "squashed" is as NFS with all_squash: `nobody` does it, whoever asks (and `behind` becomes nobody's). "ahead" has a
    clock that is an hour ahead. After `writes` writes each further one is answered with `errno` (ENOSPC). The server
    stops itself, once, when a file is to be made whose name holds `stops_at`.
    """
    script = str(Path(__file__).with_name("played_fuse.py"))
    told = ["" if writes is None else str(writes), str(errno), stops_at]
    with _served([sys.executable, script, kind, str(behind), str(at), *told], at, behind) as played:
        yield played


@contextmanager
def stopped(played: Share) -> Iterator[Share]:
    """The share's server does not answer: every access hangs (and dies on SIGKILL) until the block ends."""
    os.kill(played.pid, signal.SIGSTOP)
    try:
        yield played
    finally:
        os.kill(played.pid, signal.SIGCONT)


def mount_points(below: Path) -> list[str]:
    """Where something is mounted at or below a folder, in this namespace; never touches the places."""
    points = [line.split()[4].replace("\\040", " ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point == str(below) or point.startswith(f"{below}/")]


def loop_devices(below: Path) -> list[str]:
    """The image files below a folder that a loop device shows."""
    said = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], capture_output=True, text=True, check=True
    )
    return [line for line in said.stdout.splitlines() if line.startswith(f"{below}/")]


def nothing_is_left(below: Path) -> bool:
    """Whether no mount is left below a folder, and no loop device: the kernel lets go of those a little later."""
    if mount_points(below):
        return False
    local.close()
    try:
        wait_for(lambda: not loop_devices(below), f"loop devices below {below} to go")
    except AssertionError as error:
        kept = "\n".join(map(str, holders(loop_devices(below))))
        raise AssertionError(f"{error}; they are kept by\n{kept or 'no process'}") from None
    return True


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until a condition holds; AssertionError after `patience` seconds."""
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, f"waited in vain for: {what}"
        time.sleep(0.01)


def unmount(at: Path) -> None:
    """Unmount what is at a folder, at once if need be, and wait for its loop device to go."""
    if subprocess.run(["umount", at], capture_output=True, timeout=PATIENCE).returncode:
        subprocess.run(["umount", "--lazy", at], capture_output=True, timeout=PATIENCE)


def tool(*argv: str | Path) -> str:
    """Run a program that must succeed; what it printed."""
    ended = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, f"{argv}: {ended.stderr}"
    return ended.stdout


@contextmanager
def _served(argv: list[str], at: Path, behind: Path) -> Iterator[Share]:
    at.mkdir(parents=True, exist_ok=True)
    behind.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            wait_for(lambda: str(at) in mount_points(at) or server.poll() is not None, f"{at} to be mounted")
            assert server.poll() is None, f"{argv[0]} ended"
            yield Share(at, behind, server.pid)
        finally:
            server.send_signal(signal.SIGCONT)
            while str(at) in mount_points(at):
                unmount(at)
            server.kill()
