"""A repository in which something has decayed or is lost: that costs one snapshot, is said, and is stored again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair
from tests.played_repository import add_repository, cheapen, stored

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def flip(pack: Path) -> None:
    """What a dying disk does to some bytes."""
    content = bytearray(pack.read_bytes())
    content[40:44] = bytes(255 - byte for byte in content[40:44])
    pack.chmod(0o600)
    pack.write_bytes(content)


def packs(repository: Path) -> set[Path]:
    return set((repository / "data").glob("*/*"))


def test_what_decays_costs_one_snapshot_and_is_stored_again(tmp_path: Path) -> None:
    pair, repository = PlayedPair(tmp_path), tmp_path / "repository"
    add_repository(pair, "offsite", str(repository))
    (pair.volume / "old").write_bytes(os.urandom(300_000))
    pair.backs_up("www4")
    cheapen(repository)
    before = packs(repository)
    (pair.volume / "new").write_bytes(os.urandom(300_000))
    pair.backs_up("www4")
    second, first = (copy["snapshot"] for copy in pair.copies("www4", "offsite"))
    largest = max(packs(repository) - before, key=lambda pack: pack.stat().st_size)
    flip(largest)

    [read] = pair.json("www4", "verify", "--target", "offsite", status=1)["copies"]
    assert (read["copy"]["snapshot"], read["ok"]) == (second, False)
    assert [one["path"] for one in read["problems"]] == ["new"], read
    listed = {one["snapshot"]: one["damaged_at"] for one in pair.copies("www4", "offsite")}
    assert (listed[first], bool(listed[second])) == (None, True), "the other is as good as before"
    done = pair.run("www4", "restore", "--from", "offsite", "--to", str(tmp_path / "back"), "--yes")
    assert (done.returncode, os.listdir(tmp_path / "back")) == (0, ["old"]), done.stderr

    largest.unlink()  # restic's advice for what cannot be read
    pair.backs_up("www4")
    third = pair.copies("www4", "offsite")[0]["snapshot"]
    for snapshot in (third, second):
        [read] = pair.json("www4", "verify", snapshot, "--target", "offsite")["copies"]
        assert (read["copy"]["snapshot"], read["ok"]) == (snapshot, True), "what is stored again is in all of them"

    [*_, older, newest] = stored(pair, "offsite", "drbdbackup-record")
    for record, spoil in ((newest, flip), (older, Path.unlink)):
        at = (repository / "snapshots" / record["id"]).stat().st_mtime_ns
        data = next(tag.removeprefix("data=") for tag in record["tags"] if tag.startswith("data="))
        since = (repository / "snapshots" / data).stat().st_mtime_ns
        for pack in packs(repository):
            if since < pack.stat().st_mtime_ns <= at:
                spoil(pack)
    pair.run("www5", "sync")
    [read] = pair.json("www5", "verify", "--target", "offsite", status=1)["copies"]
    assert (read["copy"]["snapshot"], read["ok"], read["error"]) == (third, False, None), read
    wish = ["restore", "--from", "offsite", "--to", str(tmp_path / "from-www5"), "--yes"]
    refused = pair.run("www5", *wish)
    assert (refused.returncode, second in refused.stderr, first in refused.stderr) == (6, True, True), refused.stderr
    done = pair.run("www5", *wish, "--snapshot", first)
    assert (done.returncode, os.listdir(tmp_path / "from-www5")) == (0, ["old"]), done.stderr
    pair.roles("www5")
    pair.backs_up("www5")
    [read] = pair.json("www5", "verify", "--target", "offsite")["copies"]
    assert (read["ok"], read["files"]) == (True, 2)
