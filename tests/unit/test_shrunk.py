"""What counts as suspiciously small, and against which copy it is held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drbdbackup.catalog import bodies, store
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.model.backup import Copy
from drbdbackup.pipeline.ledger import Ledger
from drbdbackup.pipeline.shrinking import shrunk

MADE = datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
COPY = Copy(
    "20261101T043000Z-www4", "raid", 1, "www4", "nas", "nas", "m1", "nas:/backup", "", "/backup/1", MADE, MADE,
    100, 4096,
)  # fmt: skip


@pytest.mark.parametrize(("files", "size", "share", "said"), [
    (50, 2048, 0.5, ""),
    (49, 4096, 0.5, "it has 49 files, the last complete copy has 100"),
    (100, 2047, 0.5, "it has 2.0 KiB, the last complete copy has 4.0 KiB"),
    (0, 0, 0.0, ""),
    (200, 9999, 0.99, ""),
])  # fmt: skip
def test_less_than_its_share_of_files_or_bytes_is_suspicious(files: int, size: int, share: float, said: str) -> None:
    assert shrunk(COPY, files, size, share) == said


def test_the_first_copy_is_never_suspicious() -> None:
    assert shrunk(None, 0, 0, 0.5) == ""


def last_complete(state: Path, *copies: Copy) -> Copy | None:
    resource = ResourceConfig("raid", "/srv/raid")
    config = Config("", "www4", ("www4",), (resource,), (TargetConfig("nas", "nas"),), state_dir=str(state))
    store.record(config.state_dir, "www4", [bodies.copied("www4", MADE, copy) for copy in copies])
    return Ledger(config, resource).last_complete()


def later(number: int, **fields: object) -> Copy:
    name = f"2026110{number}T043000Z-www4"
    return replace(COPY, snapshot=name, sequence=number, path=f"/backup/{number}", **fields)  # type: ignore[arg-type]


def test_it_is_held_against_the_newest_copy_that_lacks_no_file(tmp_path: Path) -> None:
    assert last_complete(tmp_path, COPY, later(2), later(3, problems=1)) == later(2)


def test_a_source_with_a_file_that_can_never_be_read_is_guarded_too(tmp_path: Path) -> None:
    assert last_complete(tmp_path, replace(COPY, problems=1), later(2, problems=1)) == later(2, problems=1)
