"""Nothing that somebody wrote to a medium runs as somebody else: neither while a restore is at work nor afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_forged_attributes import CAPABILITY, MAY_CHANGE_USER, named
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore
from tests.settled import wait_until_settled

NAMES = [f"www/{name}" for name in ("plain", "set", "able", "edited-set", "edited-able")]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """With programs of the web user: plain ones, and some that run as their owner or with a capability."""
    played = PlayedPair(tmp_path)
    (played.volume / "www").mkdir()
    for name in NAMES:
        (played.volume / name).write_bytes(b"#!/bin/true\n")
        os.chown(played.volume / name, 33, 33)
        os.chmod(played.volume / name, 0o6755 if name.endswith("set") else 0o755)
        if name.endswith("able"):
            os.setxattr(played.volume / name, CAPABILITY, MAY_CHANGE_USER)
    wait_until_settled(played.volume)
    played.backs_up()
    return played


def edit(file: Path) -> None:
    """Another content, with everything else as it was."""
    seen, held = file.stat(), {name: os.getxattr(file, name) for name in os.listxattr(file)}
    file.write_bytes(b"#!/bin/evil\n")
    os.chmod(file, seen.st_mode & 0o7777)
    for name, value in held.items():
        os.setxattr(file, name, value)
    os.utime(file, ns=(seen.st_mtime_ns, seen.st_mtime_ns))


def attack(data: Path) -> None:
    """A program that runs as root, one that was set so and now is root's, and others with a content of the attacker."""
    for name in ("www/plain", "www/set"):
        os.chown(data / name, 0, 0)
        os.chmod(data / name, 0o4755)
    edit(data / "www/edited-set")
    edit(data / "www/edited-able")


@contextmanager
def watched(destination: Path, is_wrong: Callable[[str, os.stat_result], bool]) -> Iterator[set[str]]:
    """Names that somebody could have run meanwhile with rights that they must not have."""
    found: set[str] = set()
    done, seen = threading.Event(), {name: destination / name for name in NAMES}

    def look() -> None:
        while not done.is_set():
            for name, file in seen.items():
                try:
                    if is_wrong(name, file.stat()):
                        found.add(name)
                except OSError:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        done.set()
        looking.join()


def is_wrong(name: str, seen: os.stat_result) -> bool:
    return bool(seen.st_mode & 0o6000) and (seen.st_uid == 0 or name != "www/set")


@pytest.mark.parametrize("way", ["to", "in place"])
def test_a_program_from_a_share_never_runs_as_somebody_else(pair: PlayedPair, tmp_path: Path, way: str) -> None:
    """A NAS gives it setuid and root as its owner: it has neither, at no moment of the restore."""
    attack(pair.newest("nas"))
    at = pair.volume if way == "in place" else tmp_path / "back"
    args = ["--in-place", "--no-safety"] if way == "in place" else ["--to", str(at)]
    if way == "in place":
        for name in NAMES:
            (at / name).unlink()
    else:
        at.mkdir(mode=0o700)
    with watched(at, is_wrong) as found:
        done = pair.json("www4", "restore", "--yes", *args, status=1)
    assert found == set()
    assert named(done) == {"www/edited-set", "www/edited-able"}
    modes = {name: (at / name).stat() for name in NAMES}
    assert {name: (seen.st_uid, seen.st_mode & 0o7777) for name, seen in modes.items()} == {
        "www/plain": (33, 0o755), "www/set": (33, 0o6755), "www/able": (33, 0o755), "www/edited-set": (33, 0o755),
        "www/edited-able": (33, 0o755),
    }  # fmt: skip
    assert [name for name in NAMES if os.listxattr(at / name)] == ["www/able"]


def test_programs_that_were_there_keep_what_they_have(pair: PlayedPair, tmp_path: Path) -> None:
    """What nobody touched is as it was, and a volume that is as it was is said to be."""
    assert "already had the content of the snapshot; " in restore(pair, "--in-place", "--no-safety")
    pair.json("www4", "restore", "--yes", "--to", str(tmp_path / "back"))
    assert differences(pair.volume, tmp_path / "back") == []
    os.chmod(pair.volume / "www/set", 0o755)
    assert ": 1 entry put right" in restore(pair, "--in-place", "--no-safety")
    assert differences(pair.volume, tmp_path / "back") == []
