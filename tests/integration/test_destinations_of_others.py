"""Root restores into a folder of somebody else, who swaps a folder on the way for a symlink while it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import played_media as media
from tests.played_pair import PlayedPair, differences
from tests.swapping_user import attacked


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path / "pair")
    (played.volume / "secret").write_text("of root")
    played.backs_up()
    return played


def test_no_symlink_of_another_user_leads_a_restore_or_a_drill(pair: PlayedPair, tmp_path: Path) -> None:
    home, victim = tmp_path / "home", tmp_path / "victim"
    home.mkdir()
    victim.mkdir(0o700)
    with attacked(home, victim) as his:
        for number in range(4):
            ended = pair.run("www4", "restore", "--yes", "--to", str(his / f"to-{number}"))
            assert ended.returncode in (0, 2), ended.stderr
            assert pair.run("www4", "drill", "--to", str(his / f"drill-{number}")).returncode == 2
            assert os.listdir(victim) == []
    link = home / "still"
    link.symlink_to(victim)
    os.chown(link, 33, 33, follow_symlinks=False)
    assert pair.json("www4", "restore", "--yes", "--to", str(link), status=2)["error"]["code"] == "usage.invalid"
    assert pair.run("www4", "drill", "--to", str(link / "drill")).returncode == 2
    assert os.listdir(victim) == []


def test_where_others_can_write_but_not_replace_a_restore_goes_on(pair: PlayedPair, tmp_path: Path) -> None:
    """As in /tmp, by a symlink of root's, and into an empty folder of somebody else."""
    shared, link, theirs = tmp_path / "shared", tmp_path / "link", tmp_path / "theirs"
    shared.mkdir()
    shared.chmod(0o1777)
    link.symlink_to(shared)
    theirs.mkdir()
    os.chown(theirs, 33, 33)
    for to in (link / "a/b", theirs):
        assert pair.run("www4", "restore", "--yes", "--to", str(to)).returncode == 0
        assert differences(pair.volume, to) == []
    assert pair.run("www4", "drill", "--to", str(link / "drill")).returncode == 0


def test_nothing_is_written_through_a_read_only_mount(pair: PlayedPair, tmp_path: Path) -> None:
    """A bind mount of a file system that is writable elsewhere; the volume itself as well, with --in-place."""
    behind = tmp_path / "behind"
    behind.mkdir()
    with media.mounted(behind, tmp_path / "shown", "bind", "ro") as shown:
        for to in (shown, shown / "new"):
            told = pair.json("www4", "restore", "--yes", "--to", str(to), status=2)["error"]
            assert (told["code"], os.listdir(behind)) == ("usage.invalid", [])
    (pair.volume / "secret").write_text("of today")
    with media.mounted(pair.volume, pair.volume, "bind", "ro"):
        pair.json("www4", "restore", "--yes", "--in-place", status=2)
    assert (pair.volume / "secret").read_text() == "of today"


def test_a_mount_of_a_user_does_not_take_the_guard_away(pair: PlayedPair, tmp_path: Path) -> None:
    """In an empty folder of his own lost+found may be anything."""
    theirs = tmp_path / "theirs"
    (tmp_path / "other").mkdir()
    with media.mounted(tmp_path / "other", theirs / "lost+found", "bind") as point:
        os.chown(theirs, 33, 33)
        told = pair.json("www4", "restore", "--yes", "--to", str(theirs), status=2)
        assert str(point) in told["error"]["message"]
        assert os.listdir(theirs) == ["lost+found"]
