"""What a walk of today could not read is neither there nor gone: it is a problem, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from drbdbackup.manifest import SETTLED, Entry, Writer, order, spool_line
from drbdbackup.model.problem import Problem
from drbdbackup.pipeline.cage.protocol import NodeFacts
from drbdbackup.pipeline.cage.worker import Channel
from drbdbackup.pipeline.explore import diff_job
from drbdbackup.pipeline.explore.diff_protocol import DiffJob, WalkedVolume
from drbdbackup.scan import Walk, write_spool

BEFORE = (b"www", b"www/closed", b"www/closed/a", b"www/odd\nname", b"www/open", b"www/open/gone")
UNREAD = [Problem("www/odd\nname", "not read: Input/output error")]
UNREAD += [Problem("www/closed", "folder not read: Input/output error")]
UNREAD += [Problem(f"elsewhere/{number}", "not read: Input/output error") for number in range(1500)]


def manifest(file: Path) -> None:
    writer = Writer(str(file))
    for path in sorted(BEFORE, key=order):
        kind = b"d" if path in (b"www", b"www/closed", b"www/open") else b"f"
        entry = Entry(
            kind=kind,
            mode=0o755,
            uid=os.getuid(),
            gid=os.getgid(),
            size=0,
            mtime=0,
            ctime=0,
            inode=1,
            nlink=1,
            rdev=0,
            path=path,
        )
        fields = [getattr(entry, name) for name in Entry.__struct_fields__]
        writer.add(b"- %s -" % SETTLED, spool_line(*fields))
    writer.close()


@pytest.mark.parametrize("sides", [("snapshot", "now"), ("now", "snapshot")])
def test_what_could_not_be_read_is_not_called_gone(tmp_path: Path, sides: tuple[str, str]) -> None:
    for name in ("www/closed", "www/open", "scratch"):
        (tmp_path / "volume" / name).mkdir(parents=True)
    (tmp_path / "volume/scratch").rmdir()
    manifest(tmp_path / "snapshot")
    source = str(tmp_path / "volume")
    write_spool(Walk(source, None, frozenset(), UNREAD.append), str(tmp_path / "now"), 0, UNREAD, lambda _: None)
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        said = diff_job.do(
            DiffJob(
                here=NodeFacts(node="www4", volumes=(source,), marks=None, caged=False, nice=0),
                volume=WalkedVolume(source, None, str(tmp_path / "now"), 5.0), scratch=str(tmp_path),
                before=str(tmp_path / sides[0]), after=str(tmp_path / sides[1]), into=str(tmp_path / "into"),
            ),
            Channel(nowhere, nowhere),
        )  # fmt: skip
    finally:
        os.close(nowhere)
    told = [json.loads(line) for line in (tmp_path / "into").read_text().splitlines()]
    one_sided = {one["path"] for one in told if one["change"] in ("added", "removed")}
    assert one_sided == {".", "www/open/gone"}, "the manifest above has no root"
    assert said.problem_count == len(UNREAD)
    assert said.problems[0] == UNREAD[0]
