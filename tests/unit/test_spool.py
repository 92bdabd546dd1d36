from __future__ import annotations

from pathlib import Path

import pytest

from drbdbackup.errors import SourceError
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
