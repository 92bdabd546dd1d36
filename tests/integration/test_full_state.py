"""A state folder on a disk that is full, or read-only: what can be done is done, the rest says what to do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from drbdbackup.errors import DrbdBackupError, Locked
from drbdbackup.lock import held
from tests.played_pair import PlayedPair


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, where the state of www4 lies."""
    at = tmp_path / "state-www4"
    at.mkdir()
    options = "size=64k,nr_inodes=40,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=True, timeout=30)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True, timeout=30)


def fill(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_does_not_keep_the_lock_from_being_held(small: Path) -> None:
    path = str(small / "lock")
    fill(small)
    with held(path), pytest.raises(Locked), held(path):
        pass


def test_a_disk_without_room_for_a_lock_says_what_to_do(small: Path) -> None:
    with suppress(OSError):
        for number in range(1000):
            (small / str(number)).touch()
    with pytest.raises(DrbdBackupError, match="No space left") as caught, held(str(small / "lock")):
        pass
    assert str(small) in caught.value.message
    assert f"Free some space on the disk that holds {small}" in caught.value.hint


def test_a_run_whose_state_has_no_room_says_what_to_do(small: Path, tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_text("x")
    fill(small)
    for command in (["run"], ["sync"], ["prune"]):
        ended = pair.run("www4", *command, "--json")
        assert "Traceback" not in ended.stderr
        assert "DEBUG" not in ended.stderr
        if ended.returncode not in (0, 3):
            assert "ree some space" in ended.stderr, command
            assert json.loads(ended.stdout)


def test_a_state_that_cannot_be_written_says_what_to_do(small: Path, tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=30)
    ended = pair.run("www4", "run")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"drbdbackup: {small}/lock cannot be opened: Read-only file system\n")
    assert "DEBUG" not in ended.stderr


def test_what_lies_where_a_file_of_the_state_should_be_is_named_and_costs_nothing(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_text("x")
    pair.backs_up()
    home = tmp_path / "state-www4"
    for name in ("lock", "journal", "published", "published/www4.db", "spool", "scratch", "keys"):
        path, aside = home / name, tmp_path / "aside"
        is_folder = name in ("published", "spool", "scratch", "keys")
        command = "verify" if name == "scratch" else "run"
        if path.exists():
            path.rename(aside)
        path.write_text("{}") if is_folder else path.mkdir()
        ended = pair.run("www4", command)
        assert ended.returncode == 1, name
        assert str(path) in ended.stderr, name
        assert "move it away" in ended.stderr, ended.stderr
        assert pair.run("www4", "latest").returncode == 0, name
        path.unlink() if is_folder else path.rmdir()
        if aside.exists():
            aside.rename(path)
        pair.backs_up()
