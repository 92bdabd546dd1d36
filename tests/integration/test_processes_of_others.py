"""What /proc shows of another user's processes is of his making: it stops no work, and pretends nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup import lock
from drbdbackup.errors import VolumeInUse
from drbdbackup.tools import openers
from tests.other_user import at_work
from tests.played_media import tool

# A name that is no text, for himself and for a device that he has open: both are shown in /proc.
NO_TEXT = r"""
import fcntl, struct
enter_own_namespaces()
tun = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"\xff\xfe\x1b[31m", 0x1001))  # TUNSETIFF
with open("/proc/self/comm", "wb") as comm:
    comm.write(b"\xff\x1b]0;\n\x07\n")
his = open(sys.argv[2] + "/his\nall is well", "w")
"""
# A file of the very path that one on the volume has, in a file system of his own.
PRETENDS = r"""
enter_own_namespaces()
must(libc.mount(b"none", b"/", None, 0x44000, None))
must(libc.mount(b"none", b"/mnt", b"tmpfs", 0, b""))
os.makedirs("/mnt/old"), os.chdir("/mnt")
must(libc.syscall(155, b".", b"old"))  # pivot_root
os.chdir("/")
os.makedirs(sys.argv[1])
pretended = open(sys.argv[1] + "/file", "w")
"""
# A lock on a file of the number that ours has, in a file system of his own, by a process whose name is no text.
LOCKS = r"""
import fcntl
enter_own_namespaces()
must(libc.mount(b"none", b"/mnt", b"tmpfs", 0, b""))
number, wanted = 0, int(sys.argv[1])
while number < wanted:
    file = os.open("/mnt/file", os.O_CREAT | os.O_RDWR)
    number = os.fstat(file).st_ino
    os.unlink("/mnt/file")
assert number == wanted
fcntl.flock(file, fcntl.LOCK_EX)
with open("/proc/self/comm", "wb") as comm:
    comm.write(b"\xff\n")
"""
MANY = r"""
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # mostly 1024
file = os.open("/etc/passwd", os.O_RDONLY)
for _ in range(15_000):
    os.dup(file)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A mounted one, to which everybody can write."""
    point = tmp_path / "volume"
    point.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "mode=0777", "none", point)
    for above in point.parents:
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 1:
            above.chmod(above.stat().st_mode | 0o111)
    try:
        yield point
    finally:
        tool("umount", point)


def seen(volume: Path, below: str = "", patience: float = openers.PATIENCE) -> list[tuple[int, bool]]:
    return [(one["pid"], one["writes"]) for one in openers.look(str(volume), below, os.getpid(), patience)]


def test_no_name_of_his_keeps_writers_from_being_seen(volume: Path, tmp_path: Path) -> None:
    tun = tmp_path / "tun"
    os.mknod(tun, stat.S_IFCHR | 0o666, os.makedev(10, 200))
    tun.chmod(0o666)
    with at_work(NO_TEXT, tun, volume) as writer:
        assert seen(volume) == [(writer.pid, True)]
        assert "\n" not in str(openers.opener(openers.look(str(volume), "", os.getpid())[0]))


@pytest.mark.parametrize("below", ["", "www"])
def test_who_only_has_a_file_of_such_a_path_is_not_taken_for_a_writer(volume: Path, below: str) -> None:
    with at_work(PRETENDS, volume / below):
        assert seen(volume, below) == []


def test_who_has_too_many_files_open_to_be_looked_at_is_named(volume: Path) -> None:
    with at_work(MANY) as him, at_work("his = open(sys.argv[1] + '/his', 'w')", volume) as writer:
        assert seen(volume) == [(writer.pid, True)]
        with pytest.raises(VolumeInUse) as caught:
            seen(volume, patience=0)
    assert f"process {him.pid} (15,0" in caught.value.message
    assert str(writer.pid) not in caught.value.message


def test_no_lock_of_his_is_taken_for_ours(volume: Path) -> None:
    path = str(volume / "state/lock")
    with lock.held(path):
        assert lock.is_held(path)
    with at_work(LOCKS, os.stat(path).st_ino):
        assert f":{os.stat(path).st_ino} " in Path("/proc/locks").read_text()
        assert not lock.is_held(path)
        with lock.held(path):
            assert lock.is_held(path)
