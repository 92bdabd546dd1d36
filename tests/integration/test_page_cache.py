"""What a backup reads once is not left in the page cache, and what was in it before stays there."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drbdbackup.pipeline.files import page_cache
from drbdbackup.pipeline.files.page_cache import WINDOW, ReadOnce, absent_windows
from tests.played_media import KEEPS_NO_XATTRS, disk, share
from tests.played_pair import PlayedPair


@pytest.fixture(scope="module")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("page-cache"), "ext4") as at:
        yield at


@pytest.fixture
def readers(tmp_path: Path) -> tuple[ReadOnce, ReadOnce]:
    positions = str(tmp_path / "positions")
    page_cache.begin(positions, 3)
    page_cache.ended(positions, 2)
    return ReadOnce(positions, 0), ReadOnce(positions, 1)


def _made(path: Path, size: int) -> int:
    """A new file, open, that is on the medium and not in the cache."""
    path.write_bytes(os.urandom(size))
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
    return file


def _absent(path: Path) -> bytes:
    with open(path, "rb") as file:
        return absent_windows(file.fileno(), path.stat().st_size)


def _read(reader: ReadOnce, number: int, file: int) -> None:
    """As a copy does: look, read all of it, and say so."""
    look = reader.look(number, file)
    os.lseek(file, 0, os.SEEK_SET)
    while piece := os.read(file, WINDOW // 8):
        reader.came(look, file, len(piece))
    reader.finished(look, file)


def test_who_reads_last_drops_what_was_not_there_before(ext4: Path, readers: tuple[ReadOnce, ReadOnce]) -> None:
    path = ext4 / "large"
    file = _made(path, 3 * WINDOW + 10)
    os.pread(file, mmap.PAGESIZE, WINDOW)
    assert _absent(path) == b"\1\0\1\1"
    _read(readers[0], 7, file)
    assert _absent(path) == b"\0\0\0\0", "the other one is about to read it"
    _read(readers[1], 7, file)
    assert _absent(path) == b"\1\0\1\1"
    os.close(file)


def test_many_large_files_are_noted_in_few(ext4: Path, readers: tuple[ReadOnce, ReadOnce], tmp_path: Path) -> None:
    """A million photos are no million inodes in the folder of the lists."""
    files = [_made(ext4 / f"photo{number}", WINDOW + number) for number in range(1, 13)]
    for number, file in enumerate(files, 1):
        os.pread(file, mmap.PAGESIZE, WINDOW * (number % 2))
    for reader in readers:
        for number, file in enumerate(files[:-1], 1):
            _read(reader, number * 1000, file)
    _read(readers[1], 13_000, files[-1])  # the other one has not come that far
    assert [_absent(ext4 / f"photo{number}") for number in range(1, 13)] == [b"\1\0", b"\0\1"] * 5 + [b"\1\0", b"\0\0"]
    _read(readers[0], 13_000, files[-1])
    assert _absent(ext4 / "photo12") == b"\0\1"
    assert len(os.listdir(tmp_path)) == 4
    for file in files:
        os.close(file)


def test_small_files_go_too_but_for_those_that_somebody_uses(ext4: Path, readers: tuple[ReadOnce, ReadOnce]) -> None:
    used, other = ext4 / "used", ext4 / "other"
    files = [_made(used, 6000), _made(other, 6000)]
    used.read_bytes()
    for reader in readers:
        for number, file in enumerate(files, 1):
            _read(reader, number, file)
    assert (_absent(used), _absent(other)) == (b"\0", b"\1")
    for file in files:
        os.close(file)


@pytest.mark.parametrize("how", ["passed", "close", "ended"])
def test_nobody_waits_for_who_does_not_read_it(
    how: str, ext4: Path, readers: tuple[ReadOnce, ReadOnce], tmp_path: Path
) -> None:
    file = _made(ext4 / how, 6000)
    if how == "passed":
        readers[1].passed(3)
    elif how == "close":
        readers[1].close()
    else:
        page_cache.ended(str(tmp_path / "positions"), 1)
    _read(readers[0], 3, file)
    assert _absent(ext4 / how) == b"\1"
    os.close(file)


def test_nothing_goes_before_who_does_not_say_how_far_it_is(ext4: Path, tmp_path: Path) -> None:
    """As restic does not: it and what records its files read all of them once more."""
    files, positions = [_made(ext4 / name, 6000) for name in ("once more", "by then")], str(tmp_path / "positions")
    page_cache.begin(positions, 2)
    tree = ReadOnce(positions, 0)
    _read(tree, 1, files[0])
    page_cache.ended(positions, 1)
    _read(tree, 2, files[1])
    assert (_absent(ext4 / "once more"), _absent(ext4 / "by then")) == (b"\0", b"\1")
    for file in files:
        os.close(file)


def test_who_is_closed_neither_moves_nor_drops(ext4: Path, readers: tuple[ReadOnce, ReadOnce], tmp_path: Path) -> None:
    """As with further names of files, which are copied last and have no number."""
    others = [_made(ext4 / name, 6000) for name in ("late", "begun", "first")]
    begun = readers[1].look(5, others[1])
    os.read(others[1], 6000)
    readers[1].close()
    past_all = (tmp_path / "positions").read_bytes()[8:16]
    _read(readers[1], 0, others[0])
    readers[1].finished(begun, others[1])
    readers[1].passed(0)
    assert (tmp_path / "positions").read_bytes()[8:16] == past_all == b"\xff" * 8
    assert (_absent(ext4 / "late"), _absent(ext4 / "begun")) == (b"\0", b"\0")
    _read(readers[0], 9, others[2])
    assert _absent(ext4 / "first") == b"\1", "nobody waits for who is closed"
    for file in others:
        os.close(file)


def test_a_large_file_goes_while_it_is_read(ext4: Path) -> None:
    alone, path = ReadOnce(), ext4 / "longer"
    file = _made(path, 16 * WINDOW)
    look = alone.look(0, file)
    for _ in range(9):
        os.read(file, WINDOW)
        alone.came(look, file, WINDOW)
    assert _absent(path) == b"\1" * 8 + b"\0" + b"\1" * 7
    os.close(file)


def test_where_nothing_can_be_noted_nothing_fails(ext4: Path, tmp_path: Path) -> None:
    file = _made(ext4 / "unnoted", 6000)
    _read(ReadOnce(str(tmp_path / "gone"), 1), 3, file)
    assert _absent(ext4 / "unnoted") == b"\1"
    os.close(file)


def test_that_positions_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "positions").mkdir()
    page_cache.ended(str(tmp_path / "positions"), 1)


def test_a_night_leaves_the_cache_as_it_was(tmp_path: Path) -> None:
    """Two targets, one of which rsync fills, since it cannot hold all that a file has."""
    played = PlayedPair(tmp_path)
    behind = tmp_path / "behind"
    behind.mkdir()
    with share(played.add_share("poor"), behind, *KEEPS_NO_XATTRS):
        played.backs_up()  # the folder is known by then, and what is unchanged is read by nobody
        sizes = {"used": 6000, "small": 6000, "large": 20 * WINDOW}
        for name, size in sizes.items():
            os.close(_made(played.volume / name, size))
        (played.volume / "used").read_bytes()
        played.backs_up()
        assert [_absent(played.volume / name) for name in sizes] == [b"\0", b"\1", b"\1" * 20]
        for target in ("nas", "poor"):
            newest = played.newest(target)
            assert [_absent(newest / name) for name in sizes] == [b"\1", b"\1", b"\1" * 20], target
            assert (newest / "large").read_bytes() == (played.volume / "large").read_bytes()
    assert played.run("www4", "restore", "--from", "nas", "--to", str(tmp_path / "to"), "--yes").returncode == 0
    assert [_absent(played.newest("nas") / name) for name in sizes] == [b"\1", b"\1", b"\1" * 20]
    assert 1 not in _absent(tmp_path / "to/large"), "who restores will need it"


def test_nobody_looks_for_pages_of_holes(ext4: Path) -> None:
    """A TiB of them has 270 million: to look at each takes eleven seconds, and a user can have many."""
    path = ext4 / "holes"
    path.write_bytes(b"x" * (3 * WINDOW))
    os.truncate(path, 1 << 40)
    with path.open("r+b") as file:
        file.seek((1 << 39) + 5)
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(file.fileno(), 1, WINDOW)
        os.pread(file.fileno(), 1, 1 << 39)
        began = time.process_time()
        found = absent_windows(file.fileno(), 1 << 40)
        assert time.process_time() - began < 2
        assert file.tell() == (1 << 39) + 12, "whoever reads it goes on where it was"
    assert len(found) == (1 << 40) // WINDOW
    assert [at for at, is_absent in enumerate(found) if not is_absent] == [1, (1 << 39) // WINDOW]
