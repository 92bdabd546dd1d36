"""Who owns a folder of the volume exchanges what is in it for root's, between the walk and the copy of it.

What comes out of the next restore must not be open to him: owner and mode are those of what was read.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drbdbackup import manifest
from drbdbackup.pipeline.snapshot.copy_files import Copied, Copier, CopySettings
from drbdbackup.pipeline.volume.hole_quota import HoleQuota
from drbdbackup.scan import Walk
from drbdbackup.tools.rsync import Holds
from tests.played_media import tool

WEB = 33
SECRET = b"a secret of root's"
HIS, RATE = b"his" * 300_000, 1_000_000
ALL, FEW = Holds(), Holds(owners=False, acls=False, xattrs=False)


@contextmanager
def in_place_of_rsync(folder: Path, script: str) -> Iterator[None]:
    """A program that is found as rsync meanwhile; `{rsync}` in its script is the real one."""
    program = folder / "bin/rsync"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script.format(rsync=tool('which', 'rsync').strip())}\n")
    program.chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{program.parent}:{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


def exchange(one: Path, other: Path) -> None:
    assert ctypes.CDLL(None).renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


class Volume:
    """`web` belongs to a web user: `web/his`, and `web/his-folder/key`. There are `web/secret` of root's that nobody
    else can read, and `web/closed`, in which everybody could read `key` if they got in.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.copy = tmp_path / "volume", tmp_path / "copy"
        self.scratch = tmp_path / "scratch"
        self.web = self.source / "web"
        for folder in (self.web / "his-folder", self.web / "closed", self.copy / "web/his-folder", self.scratch):
            folder.mkdir(parents=True)
        (self.copy / "web/closed").mkdir()
        for name, content in {"his": b"his", "his-folder/key": b"his", "secret": SECRET, "closed/key": SECRET}.items():
            (self.web / name).write_bytes(content)
            (self.web / name).chmod(0o644)
        (self.web / "secret").chmod(0o600)
        (self.web / "closed").chmod(0o700)
        for name in (".", "his", "his-folder", "his-folder/key"):
            os.chown(self.web / name, WEB, WEB)
        self.source.chmod(0o755)
        self.filled = Copied()
        self.hole_quota = HoleQuota(each_name=True)

    def walk(self) -> list[bytes]:
        return list(Walk(str(self.source), None, frozenset(), lambda one: pytest.fail(str(one))))

    def copied(self, lines: list[bytes], holds: Holds, rate: int = 0) -> dict[str, manifest.Recorded]:
        """What the manifest says of each file, as a copy after this walk writes it."""
        place = CopySettings(
            source=str(self.source), data=str(self.copy), scratch=str(self.scratch), holds=holds, started_ns=1 << 62,
            rate=rate, hole_quota=self.hole_quota,
        )  # fmt: skip
        copier = Copier(place, "record", self.filled, lambda: None)
        for line in lines:
            if line.startswith(b"d"):
                copier.entered(line)
            else:
                copier.add(manifest.path_of(line), line)
        copier.close()
        written = (self.scratch / "record").read_bytes().splitlines(keepends=True)
        return {os.fsdecode(one.entry.path): one for one in map(manifest.recorded, written)}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def rights(one: manifest.Recorded) -> tuple[int, int]:
    return one.entry.uid, one.entry.mode


@pytest.mark.parametrize("holds", [ALL, FEW], ids=["all", "few"])
@pytest.mark.parametrize("names", [1, 2])
def test_a_file_has_the_owner_and_mode_of_what_was_read(volume: Volume, holds: Holds, names: int) -> None:
    if names > 1:
        os.link(volume.web / "his", volume.web / "his-second")
        os.link(volume.web / "secret", volume.web / "secret-second")
    lines = volume.walk()
    exchange(volume.web / "his", volume.web / "secret")
    found = volume.copied(lines, holds)
    assert (volume.copy / "web/his").read_bytes() == SECRET
    assert rights(found["web/his"]) == (0, 0o600)
    assert found["web/his"].flag == manifest.CHANGED
    assert rights(found["web/secret"]) == (WEB, 0o644)
    assert rights(found["web/his-folder/key"]) == (WEB, 0o644)
    assert found["web/his-folder/key"].flag != manifest.CHANGED


@pytest.mark.parametrize("holds", [ALL, FEW], ids=["all", "few"])
def test_what_was_read_in_another_folder_is_for_its_owner_alone(volume: Volume, holds: Holds) -> None:
    lines = volume.walk()
    exchange(volume.web / "his-folder", volume.web / "closed")
    found = volume.copied(lines, holds)
    assert (volume.copy / "web/his-folder/key").read_bytes() == SECRET
    assert rights(found["web/his-folder/key"]) == (0, 0o600)


def test_what_was_exchanged_back_meanwhile_is_copied_from_the_file_that_is_there(volume: Volume) -> None:
    """rsync opens names: what it has read of another folder is not kept. What is read instead keeps to the rate."""
    (volume.web / "his-folder/key").write_bytes(HIS)
    lines = volume.walk()
    ends = f'-100, b"{volume.web}/his-folder", -100, b"{volume.web}/closed"'
    swap = f"import ctypes; ctypes.CDLL(None).renameat2({ends}, 2)"
    ended = f"touch {volume.scratch}/rsync-ended\npython3 -c '{swap}'\nexit $status"
    with in_place_of_rsync(volume.scratch, f"python3 -c '{swap}'\n{{rsync}} \"$@\"\nstatus=$?\n{ended}"):
        found = volume.copied(lines, FEW, RATE)
        took = time.time() - (volume.scratch / "rsync-ended").stat().st_mtime
    assert took > len(HIS) / RATE, "it is read twice, and half a second is free"
    assert (volume.copy / "web/his-folder/key").read_bytes() == HIS
    assert (volume.copy / "web/closed/key").read_bytes() == SECRET
    assert {name: rights(one) for name, one in found.items()} == {
        "web/his": (WEB, 0o644), "web/his-folder/key": (WEB, 0o644),
        "web/secret": (0, 0o600), "web/closed/key": (0, 0o644),
    }  # fmt: skip


def test_a_folder_does_not_get_the_acl_of_another(volume: Volume) -> None:
    """Nor does a file."""
    for name in ("his", "his-folder"):
        tool("setfacl", "-m", f"u:{WEB}:rwx", volume.web / name)
    lines = volume.walk()
    exchange(volume.web / "his", volume.web / "secret")
    found = volume.copied(lines, FEW)
    assert manifest.known_attributes(found["web/secret"].attributes) == manifest.NO_ATTRIBUTES


def test_a_large_file_that_grows_meanwhile_stays_one_file(volume: Volume) -> None:
    """Its first name is copied here, the others by rsync, which meets more of it."""
    for name in ("large", "large-second", "large-third"):
        if name == "large":
            (volume.web / name).write_bytes(b"x" * (2 << 20))
        else:
            os.link(volume.web / "large", volume.web / name)
    lines = volume.walk()
    with (volume.web / "large").open("ab") as file:
        file.write(b"more")
    with in_place_of_rsync(volume.scratch, f'echo more >> {volume.web}/large\nexec {{rsync}} "$@"'):
        found = volume.copied(lines, ALL)
    names = [name for name in found if "large" in name]
    assert len({found[name].hash for name in names}) == 1
    assert len({(volume.copy / name).stat().st_ino for name in names}) == 1
    assert len(names) == 3


HOLES = 64 << 30  # bytes; rsync reads them for five minutes


def make_holes(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(HOLES)
        opened.seek(HOLES // 2)
        opened.write(b"content")


def is_all_there(copied: Path) -> bool:
    with copied.open("rb") as opened:
        opened.seek(HOLES // 2)
        return (opened.read(8), copied.stat().st_size) == (b"content\0", HOLES) and copied.stat().st_blocks < 100


@pytest.mark.parametrize("is_exchanged", [False, True], ids=["there", "exchanged"])
def test_rsync_reads_no_holes_on_a_target_that_holds_little(volume: Volume, is_exchanged: bool) -> None:
    """The rate is for what is read: for the holes it would be half a day."""
    make_holes(volume.web / "his")
    os.link(volume.web / "his", volume.web / "his-second")
    os.utime(volume.web / "his", ns=(5, 1_700_000_000_123_456_789))
    lines = volume.walk()
    if is_exchanged:
        for name in ("his", "his-second"):
            exchange(volume.web / name, volume.web / "secret")
            (volume.web / "secret").rename(volume.web / f"was-{name}")
            (volume.web / "secret").write_bytes(SECRET)
    with in_place_of_rsync(volume.scratch, 'exec prlimit --cpu=2 {rsync} "$@"'):
        found = volume.copied(lines, FEW, RATE)
    assert volume.filled.problems == []
    one, other = found["web/his"], found["web/his-second"]
    assert (one.hash, one.flag) == (other.hash, other.flag)
    if is_exchanged:
        assert (volume.copy / "web/his").read_bytes() == (volume.copy / "web/his-second").read_bytes() == SECRET
        assert (rights(one), one.flag) == ((0, 0o600), manifest.CHANGED)
        return
    assert is_all_there(volume.copy / "web/his")
    assert (volume.copy / "web/his").samefile(volume.copy / "web/his-second")
    assert (volume.copy / "web/his").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert one.flag == manifest.SETTLED
    assert volume.filled.bytes == HOLES + sum(len(name) for name in (SECRET, SECRET, b"his"))


def test_what_grows_while_rsync_reads_it_is_copied_as_far_as_it_may_have_grown(volume: Volume) -> None:
    """A program in rsync's place reads as one does to whom somebody shows an endless file, when it has begun."""
    lines, began = volume.walk(), volume.scratch / "began"
    endless = f"truncate -s 1T {volume.web}/his; exec dd if=/dev/zero of=/dev/null bs=4M status=none"
    with in_place_of_rsync(volume.scratch, f'[ -e {began} ] && exec {{rsync}} "$@"\n touch {began}; {endless}'):
        found = volume.copied(lines, FEW)
    assert volume.filled.problems == []
    assert (found["web/his"].flag, found["web/secret"].flag) == (manifest.CHANGED, manifest.SETTLED)
    assert (volume.copy / "web/his").stat().st_size == 2 * len(b"his") + (16 << 30)
    assert (volume.copy / "web/secret").read_bytes() == SECRET


def test_what_an_owner_has_too_much_of_when_it_is_copied_is_named(volume: Volume) -> None:
    """The walk cannot know which target has links, or what grows after it."""
    volume.hole_quota = HoleQuota(1 << 30, each_name=True)
    for name in ("his", "his-folder/key"):
        os.truncate(volume.web / name, 3 << 28)
    found = volume.copied(volume.walk(), FEW)
    assert found.keys() == {"web/his", "web/secret", "web/closed/key"}
    assert [problem.path for problem in volume.filled.problems] == ["web/his-folder/key"]
    assert not (volume.copy / "web/his-folder/key").exists()
