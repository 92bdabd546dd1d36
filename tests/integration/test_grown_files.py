"""Files on a NAS that somebody has made large since: nothing reads them, and nothing waits for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.played_media import disk_image
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled

LARGE = 4 << 40  # bytes of a hole: rsync reads them for hours
GROWN = {"www/page", "www/one", "www/two", "www/image"}


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    (played.volume / "www").mkdir()
    for name in ("page", "one", "sound"):
        (played.volume / "www" / name).write_text(name)
    os.link(played.volume / "www/one", played.volume / "www/two")
    (played.volume / "www/image").write_bytes(b"x" + bytes(2 << 20))
    wait_until_settled(played.volume)
    return played


def grow(data: Path) -> None:
    for name in GROWN:
        seen = (data / name).stat()
        os.truncate(data / name, LARGE)
        os.utime(data / name, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def named(found: dict[str, object]) -> list[str]:
    problems = found["problems"]
    assert isinstance(problems, list)
    return sorted(one["path"] for one in problems)


def test_they_are_left_out_and_named(pair: PlayedPair, tmp_path: Path) -> None:
    """By a restore to a folder, one in place, a replication, a drill and a verify; the next night is as before."""
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    disk_image(tmp_path / "disk-www5.img")
    pair.json("www4", "run", "--target", "nas")
    grow(pair.newest("nas"))
    [refused] = pair.json("www5", "replicate", status=1)["replicated"]
    assert f"www/page: has {LARGE} bytes, not 4" in refused["error"]["message"]

    to = tmp_path / "to"
    assert named(pair.json("www4", "restore", "--yes", "--to", str(to), status=1)) == sorted(GROWN)
    assert sorted(path.name for path in (to / "www").iterdir()) == ["sound"]
    assert named(pair.json("www4", "restore", "--yes", "--in-place", "--no-safety", status=1)) == sorted(GROWN)
    assert (pair.volume / "www/page").read_text() == "page"
    assert pair.run("www4", "restore", "--accept", "--yes").returncode == 0
    assert named(pair.json("www4", "drill", status=1)) == sorted(GROWN)
    [seen] = pair.json("www4", "verify", "--target", "nas", status=1)["copies"]
    assert named(seen) == sorted(GROWN)
    pair.json("www4", "run", "--target", "nas")
    assert differences(pair.volume, pair.newest("nas")) == []


def test_what_grows_while_it_is_read_ends_the_restore(pair: PlayedPair, tmp_path: Path) -> None:
    """A program in rsync's place reads as one does to whom somebody shows an endless file."""
    pair.backs_up()
    endless = tmp_path / "bin/rsync"
    endless.parent.mkdir()
    endless.write_text("#!/bin/sh\nexec dd if=/dev/zero of=/dev/null bs=4M status=none\n")
    endless.chmod(0o755)
    pair.path = f"{endless.parent}:{os.environ['PATH']}"
    ended = pair.run("www4", "restore", "--yes", "--to", str(tmp_path / "to"))
    assert (ended.returncode, "grow while they are read" in ended.stderr) == (1, True), ended.stderr
