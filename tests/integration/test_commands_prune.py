"""`prune`: what goes, why, and what it must know before it judges."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from tests.played_media import wait_for
from tests.played_pair import PlayedPair

MANY = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 3"
FEW = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 1"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """Three copies, which one rule keeps no longer."""
    pair = PlayedPair(tmp_path, extra=MANY)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    for _ in range(3):
        pair.backs_up()
    pair.extra = FEW
    return pair


def test_it_says_why_each_copy_stays_or_goes(pair: PlayedPair) -> None:
    ended = pair.run("www4", "prune", "--dry-run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == "raid on nas: 1 to keep, 2 to drop"
    assert "newest" in ended.stdout
    assert "no rule keeps it" in ended.stdout
    assert len(pair.copies()) == 3
    [told] = pair.json("www4", "prune")["targets"]
    assert len(told["removed"]) == 2
    assert [copy["snapshot"] for copy in pair.copies()] == [one["snapshot"] for one in told["copies"] if one["keep"]]
    folder = pair.folder / "nas" / "drbdbackup" / "raid"
    assert sorted(path.name for path in folder.iterdir()) == sorted([pair.copies()[0]["snapshot"], "latest"])


def test_it_leaves_a_target_alone_that_is_not_there(pair: PlayedPair) -> None:
    (pair.folder / "nas").rename(pair.folder / "gone")
    ended = pair.run("www4", "prune")
    assert ended.returncode == 1
    assert ended.stderr.startswith("drbdbackup: nas: ")
    assert len(pair.copies()) == 3


@pytest.mark.parametrize("before", [["--dry-run"], []])
def test_a_copy_that_only_the_other_node_knows_to_be_verified_stays(pair: PlayedPair, before: list[str]) -> None:
    oldest = pair.copies("www5")[-1]["snapshot"]
    assert pair.run("www5", "verify", oldest).returncode == 0
    assert pair.run("www5", "sync").returncode == 0
    [told] = pair.json("www4", "prune", *before)["targets"]
    assert [one["reason"] for one in told["copies"] if one["snapshot"] == oldest] == ["last verified"]
    assert oldest in [copy["snapshot"] for copy in pair.copies()]


@contextmanager
def restoring(pair: PlayedPair, snapshot: str, *where: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A restore that is under way, and goes on once the file is there. It has a file of two names, for rsync."""
    folder, rsync = pair.folder / f"restoring-{snapshot}", which("rsync")
    begun, go, waiting = folder / "begun", folder / "go", folder / "bin/rsync"
    waiting.parent.mkdir(parents=True)
    waiting.write_text(f"""#!/bin/sh
case "$*" in *--version*) exec {rsync} "$@";; esac
: >> {begun}
until [ -e {go} ]; do sleep 0.05; done
exec {rsync} "$@"
""")
    waiting.chmod(0o755)
    words = ("restore", "--snapshot", snapshot, *where, "--yes", "--json")
    process = subprocess.Popen(
        pair.command("www4", *words), env={**os.environ, "PATH": f"{waiting.parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(begun.exists, "the restore")
        yield process, go
    finally:
        process.kill()
        process.communicate()


def test_what_is_being_restored_goes_after_it(tmp_path: Path) -> None:
    """Neither by `prune` nor by the run of the night; the copy goes once the restore is over."""
    pair = PlayedPair(tmp_path, extra="[retention]\ndaily = 0\nweekly = 0\nmonthly = 0\nminimum = 1")
    (pair.volume / "page").write_text("of the first night")
    os.link(pair.volume / "page", pair.volume / "again")
    pair.backs_up()
    [first] = pair.copies()
    back = tmp_path / "back"
    with restoring(pair, first["snapshot"], "--to", str(back)) as (process, go):
        (pair.volume / "page").write_text("of the second night")
        pair.backs_up()
        pruned = pair.run("www4", "prune")
        assert pruned.returncode == 0
        assert ["left", first["snapshot"]] in [line.split()[:2] for line in pruned.stdout.splitlines()]
        assert Path(first["path"]).is_dir()
        go.touch()
        assert process.wait(60) == 0
    assert (back / "page").read_text() == "of the first night"

    assert pair.run("www4", "prune").returncode == 0
    assert not Path(first["path"]).exists()

    [second] = pair.copies()
    with restoring(pair, second["snapshot"], "--to", str(tmp_path / "again")) as (process, go):
        pair.backs_up()
        assert Path(second["path"]).is_dir()
        assert pair.run("www5", "prune").returncode == 0
        assert not Path(second["path"]).exists(), "a node knows of its own restores only"
        go.touch()
        said, _ = process.communicate(timeout=60)
        assert (process.returncode, json.loads(said)["error"]["code"]) == (6, "copy.not-found")
    assert second["snapshot"] not in [copy["snapshot"] for copy in pair.copies("www4")], "www5 has told at once"

    [third] = pair.copies()
    (pair.volume / "page").write_text("of the day after")
    (pair.volume / "mine").write_text("in no snapshot")
    with restoring(pair, third["snapshot"], "--in-place", "--no-safety") as (process, go):
        shutil.rmtree(Path(third["path"]).parent)
        go.touch()
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(said)["error"]["code"]) == (6, "copy.not-found")
    assert (pair.volume / "mine").exists(), "what the snapshot lacks goes when all is there, and it is not"
