"""A state folder that has no room in mid-run: what can be done is done, and nobody takes it for a full target."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair, differences

REFUSE = """
CREATE TRIGGER refuse BEFORE INSERT ON fact WHEN new.kind = '{kind}' AND instr(new.body, '{word}')
BEGIN SELECT RAISE(FAIL, 'no room for this'); END
"""


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    played.add_share("other")
    (played.volume / "page").write_text("x" * 1000)
    return played


@pytest.fixture
def small(pair: PlayedPair) -> Iterator[Path]:
    """The state of www4 on a file system of its own."""
    at = pair.folder / "state-www4"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k,mode=0700", "tmpfs", at], check=True, timeout=30)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True, timeout=30)


def refuse(pair: PlayedPair, kind: str, word: str) -> None:
    """From now on the catalog cannot take such facts."""
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog, catalog:
        catalog.execute(REFUSE.format(kind=kind, word=word))


def allow(pair: PlayedPair) -> None:
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog, catalog:
        catalog.execute("DROP TRIGGER refuse")


def per_target(pair: PlayedPair) -> dict[str, int]:
    copies = pair.copies()
    return {name: sum(copy["target"] == name for copy in copies) for name in ("nas", "other")}


def test_a_copy_that_cannot_be_recorded_does_not_end_the_run_for_the_other_target(pair: PlayedPair) -> None:
    pair.backs_up()
    refuse(pair, "copy", '"target":"nas"')
    (pair.volume / "page").write_text("y" * 1000)
    [run] = pair.json("www4", "run", status=3)["runs"]
    ended = {target["target"]: target["error"] for target in run["targets"]}
    assert run["outcome"] == "partial"
    assert "its copy is there, but it could not be recorded" in ended["nas"]["message"]
    assert ended["other"] is None
    assert per_target(pair) == {"nas": 1, "other": 2}
    allow(pair)
    pair.backs_up()
    assert per_target(pair) == {"nas": 3, "other": 3}, "the medium has told of what could not be recorded"
    assert differences(pair.volume, pair.newest("nas")) == []


def test_a_run_that_cannot_be_recorded_has_made_its_copies(pair: PlayedPair) -> None:
    pair.backs_up()
    refuse(pair, "run", "")
    [run] = pair.json("www4", "run", status=3)["runs"]
    assert run["outcome"] == "partial"
    assert run["error"]["code"] == "catalog.unusable"
    assert all(target["copy"] for target in run["targets"])
    assert per_target(pair) == {"nas": 2, "other": 2}
    allow(pair)
    pair.backs_up()


def test_a_walk_whose_list_has_no_room_blames_the_state_folder(pair: PlayedPair, small: Path) -> None:
    pair.backs_up()
    before = pair.copies()
    for number in range(6000):
        (pair.volume / f"{number:0250}").touch()
    [run] = pair.json("www4", "run", status=1)["runs"]
    assert run["error"]["code"] == "state.unwritable"
    assert "Free some space on the disk that holds state_dir" in run["error"]["hint"]
    assert pair.copies() == before
    subprocess.run(["mount", "-o", "remount,size=60m", small], check=True, timeout=30)
    pair.backs_up()
    assert pair.run("www4", "verify").returncode == 0
    for target in ("nas", "other"):
        assert len(os.listdir(pair.newest(target))) == 6001
        assert [name for name in os.listdir(pair.folder / target / "drbdbackup/raid") if name.startswith(".")] == []
    assert os.listdir(small / "spool") == []
