"""The report of a played pair, as it is written by hand and after each run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    for node in ("www4", "www5"):
        (tmp_path / f"pages-{node}").mkdir(parents=True)
    pair = PlayedPair(tmp_path, extra=f'[report]\nhtml = "{tmp_path}/pages-{{node}}/backups.html"\n')
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def test_it_is_written_after_each_run_and_a_folder_that_is_gone_changes_nothing_about_the_backup(
    pair: PlayedPair,
) -> None:
    page = pair.folder / "pages-www4/backups.html"
    before = os.umask(0o077)
    try:
        pair.backs_up("www4")
    finally:
        os.umask(before)
    first = page.stat()
    snapshot = pair.copies()[0]["snapshot"]
    assert first.st_mode & 0o777 == 0o644
    assert snapshot in page.read_text()
    pair.backs_up("www5")
    assert snapshot in (pair.folder / "pages-www5/backups.html").read_text(), "the node that stands by has one, too"
    page.unlink()
    page.parent.rmdir()
    ended = pair.run("www4", "run")
    assert ended.returncode == 0
    assert "the report was not written" in ended.stderr
    ended = pair.run("www4", "run", "--if-due")
    assert (ended.returncode, ended.stderr) == (0, ""), "cron comes by every quarter of an hour"


def test_by_hand_it_is_replaced_as_a_whole_and_says_so_if_it_cannot_be_written(pair: PlayedPair) -> None:
    page = pair.folder / "by-hand.html"
    page.write_text("something else")
    told = pair.json("www4", "report", "--html", str(page))
    assert told["bytes"] == page.stat().st_size
    assert "There is no backup that can be restored" in page.read_text()
    ended = pair.run("www4", "report", "--html", f"{pair.folder}/nowhere/page.html")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "No such file or directory" in ended.stderr
    assert pair.run("www4", "report", "--html", "-").returncode == 2
    fifo = pair.folder / "fifo"
    os.mkfifo(fifo)
    assert pair.run("www4", "report", "--html", str(fifo)).returncode == 1
    assert fifo.is_fifo(), "or /dev/null would be gone"
