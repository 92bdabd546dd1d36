"""What counts as suspiciously small, and against which copy it is held."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import bodies, store
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.backup.run_facts import RunFacts
from drbdbackup.pipeline.backup.shrink_gate import shrunk
from tests import known_copy
from tests.known_copy import MADE

COPY = replace(known_copy.COPY, files=100, bytes=4096)
HOLED = replace(COPY, bytes=60 << 30, allocated=4096)


@pytest.mark.parametrize(("files", "size", "share", "said"), [
    (50, 2048, 0.5, ""),
    (49, 4096, 0.5, "it has 49 files, the last complete copy has 100"),
    (100, 2047, 0.5, "it has 2.0 KiB, the last complete copy has 4.0 KiB"),
    (0, 0, 0.0, ""),
    (200, 9999, 0.99, ""),
])  # fmt: skip
def test_less_than_its_share_of_files_or_bytes_is_suspicious(files: int, size: int, share: float, said: str) -> None:
    assert shrunk(COPY, files, size, size, share) == said, "made by an older version, which did not count holes"
    assert shrunk(HOLED, files, 60 << 30, size, share) == said, "what is lost beside a file of holes is missed"
    assert shrunk(HOLED, files, 2, size, share) == said, "a file of holes that has gone is not"


def test_the_first_copy_is_never_suspicious() -> None:
    assert shrunk(None, 0, 0, 0, 0.5) == ""


def last_complete(state: Path, *copies: Copy) -> Copy | None:
    resource = ResourceConfig(name="raid", source="/srv/raid")
    config = Config(
        file="",
        node="www4",
        nodes=("www4",),
        resources=(resource,),
        targets=(TargetConfig(name="nas", kind="nas"),),
        state_dir=str(state),
    )
    store.record(config.state_dir, "www4", [bodies.copied("www4", MADE, copy) for copy in copies])
    return next(iter(RunFacts(config, resource).last_complete()), None)


def later(number: int, **fields: object) -> Copy:
    name = f"2026110{number}T043000Z-www4"
    return replace(COPY, snapshot=name, sequence=number, path=f"/backup/{number}", **fields)  # type: ignore[arg-type]


def test_it_is_held_against_the_newest_copy_that_lacks_no_file(tmp_path: Path) -> None:
    assert last_complete(tmp_path, COPY, later(2), later(3, problems=1)) == later(2)


def test_a_source_with_a_file_that_can_never_be_read_is_guarded_too(tmp_path: Path) -> None:
    assert last_complete(tmp_path, replace(COPY, problems=1), later(2, problems=1)) == later(2, problems=1)
