from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from drbdbackup.errors import SourceError
from drbdbackup.model.problem import Problem
from drbdbackup.scan import Spool, Walk, write_spool


def written(folder: Path, spool: Path) -> None:
    write_spool(Walk(str(folder), None, frozenset(), lambda _: None), str(spool), 7, [], lambda _: None)


def test_a_reader_may_come_before_the_walk_has_begun(tmp_path):
    source, file = tmp_path / "source", tmp_path / "spool"
    source.mkdir()
    (source / "file").write_text("x")
    spool = Spool(str(file), 10.0, on_wait=lambda: written(source, file))
    assert [line.split()[-1] for line in spool] == [b".", b"file"]
    assert spool.started_ns == 7


def test_a_walk_that_never_begins_is_given_up(tmp_path):
    with pytest.raises(SourceError, match="does not proceed"):
        list(Spool(str(tmp_path / "spool"), 0.05))


def test_a_spool_that_is_not_whole_is_no_spool(tmp_path):
    """write(2) stops where there is no more room, and says so only the next time."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(100):
        (source / f"file {number}").touch()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            written(source, tmp_path / "spool")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "spool").stat().st_size == 1000


def test_the_walk_is_not_given_up_for_the_time_that_the_reader_took(tmp_path):
    file = tmp_path / "spool"
    file.write_bytes(b"#spool 1 7\nf 1\nf 2")
    waited = list[float]()

    def write() -> None:
        waited.append(time.monotonic())
        with file.open("ab") as spool:
            spool.write(b" and more\n#problem x\tbecause\n#end 2 2 0 0\n")

    spool = Spool(str(file), 0.05, on_wait=write)
    lines = iter(spool)
    assert next(lines) == b"f 1\n"
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass
    assert list(lines) == [b"f 2 and more\n"]
    assert (len(waited), spool.problems, spool.totals.files) == (1, [Problem("x", "because")], 2)


def test_who_passes_over_the_entries_hears_what_comes_after_them(tmp_path):
    source, file = tmp_path / "source", tmp_path / "spool"
    source.mkdir()
    for number in range(3000):  # more than is read at a time
        (source / f"file {number}").touch()
    (source / "#end 1 2 3 4").touch()
    out, passed = [b"a\nb", b"#end 0 0 0 0"], list[int]()

    def write() -> None:
        if not file.exists():
            walk = Walk(str(source), None, frozenset(), lambda _: None)
            write_spool(walk, str(file), 7, [Problem("x\ty", "because")], lambda _: None, out)

    read, passing = Spool(str(file), 10.0, on_wait=write), Spool(str(file), 10.0)
    lines = list(read)
    passing.await_end(passed.append)
    assert passing.totals == read.totals
    assert passing.totals.entries == len(lines) == 3002
    assert (passing.started_ns, passing.problems, passing.left_out) == (7, [Problem("x\ty", "because")], out)
    assert (read.problems, read.left_out) == (passing.problems, out)
    assert len(passed) > 2
    assert passed[-1] >= 3002


def test_a_folder_with_too_many_names_is_a_problem_and_the_others_are_read(tmp_path):
    for folder, count in (("a", 40), ("b/deep", 40), ("crowd", 90), ("d", 40)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            (tmp_path / folder / f"{number:03}").touch()
    problems = list[Problem]()
    lines = list(Walk(str(tmp_path), None, frozenset(), problems.append, memory=80 * 67))
    assert [one.path for one in problems] == ["crowd"]
    assert sum(line.startswith(b"f") for line in lines) == 120
    assert any(line.endswith(b" crowd\n") for line in lines)
    with pytest.raises(SourceError):
        list(Walk(str(tmp_path), None, frozenset(), problems.append, memory=3 * 64))
