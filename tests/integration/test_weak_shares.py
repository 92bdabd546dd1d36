"""Shares that squash root, know no ACLs, links or symlinks, or fold case: what they lose, the manifest gives back."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_media import (
    HIDES_HARD_LINKS,
    IGNORES_MODES,
    IGNORES_OWNERS,
    KEEPS_NO_XATTRS,
    REFUSES_OWNERS,
    share,
    weak_share,
)
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled

BINDFS = {
    "refuses owners": REFUSES_OWNERS,
    "ignores owners": IGNORES_OWNERS,
    "ignores modes": IGNORES_MODES,
    "keeps no attributes": KEEPS_NO_XATTRS,
    "hides hard links": HIDES_HARD_LINKS,
    "keeps nothing of all that": (*IGNORES_OWNERS, *IGNORES_MODES, *KEEPS_NO_XATTRS, *HIDES_HARD_LINKS),
}
FUSE = ("simple", "squashed")


@pytest.fixture(params=[*BINDFS, *FUSE])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlayedPair]:
    kind = str(request.param)
    at, behind = tmp_path / "nas", tmp_path / "behind"
    played = share(at, behind, *BINDFS[kind]) if kind in BINDFS else weak_share(at, behind, kind)
    with played:
        found = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{at}"'})
        furnish(found.volume)
        wait_until_settled(found.volume)
        yield found


def furnish(volume: Path) -> None:
    (volume / "www").mkdir(mode=0o2750)
    for name in ("README", "readme", "ReadMe", "a:b", "what?", "dot.", "é", "é", "plain"):
        (volume / "www" / name).write_text(f"content of {name}")
    with open(os.fsencode(volume) + b"/www/\xff\n", "wb") as file:
        file.write(b"not a name")
    (volume / "WWW").mkdir()
    (volume / "WWW/inner").write_text("in a folder whose name is taken, case aside")
    (volume / "mail").mkdir()
    (volume / "mail/1").write_text("dear sir")
    os.link(volume / "mail/1", volume / "mail/2")
    os.chown(volume / "mail/1", 33, 44)
    os.chmod(volume / "www/plain", 0o4711)
    (volume / "unreadable").write_text("secret")
    os.chmod(volume / "unreadable", 0)
    (volume / "locked").mkdir()
    (volume / "locked/in").write_text("x")
    os.chmod(volume / "locked", 0o500)
    (volume / "link").symlink_to("www/plain")
    os.lchown(volume / "link", 5, 6)
    os.mkfifo(volume / "queue", 0o640)
    os.mknod(volume / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(volume / "www/plain", "user.note", b"\0\xff")
    subprocess.run(["setfacl", "-m", "u:99:rw", str(volume / "mail/1")], check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:50:rx", str(volume / "mail")], check=True)
    os.utime(volume / "www", ns=(1, 1_234_567_890_123_456_789))


def test_all_that_the_share_loses_comes_back(pair: PlayedPair) -> None:
    pair.backs_up()
    restored = pair.folder / "restored"
    ended = pair.run("www4", "restore", "--from", "nas", "--to", str(restored), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert differences(pair.volume, restored) == []


def test_it_comes_back_from_a_later_copy_too(pair: PlayedPair) -> None:
    pair.backs_up()
    os.chown(pair.volume / "www/plain", 7, 8)
    (pair.volume / "www/README").unlink()
    (pair.volume / "www/what?").write_text("something else")
    pair.backs_up()
    restored = pair.folder / "restored"
    ended = pair.run("www4", "restore", "--to", str(restored), "--yes")
    assert ended.returncode == 0, ended.stderr
    assert differences(pair.volume, restored) == []


def test_such_copies_verify_and_can_be_pruned(pair: PlayedPair) -> None:
    pair.extra = "[retention]\ndaily = 1\nweekly = 0\nmonthly = 0\nminimum = 1"
    pair.backs_up()
    pair.backs_up()
    assert len(pair.copies()) == 1
    ended = pair.run("www4", "verify")
    assert ended.returncode == 0, ended.stderr


def test_merging_from_a_share_without_symlinks_deletes_no_folder(tmp_path: Path) -> None:
    with weak_share(tmp_path / "nas", tmp_path / "behind"):
        pair = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas"'})
        for name in ("full", "empty"):
            (pair.volume / name).symlink_to("elsewhere")
        pair.backs_up()
        for name in ("full", "empty"):
            (tmp_path / "back" / name).mkdir(parents=True)
        (tmp_path / "back/full/precious").write_text("precious")
        ended = pair.run("www4", "restore", "--yes", "--merge", "--to", str(tmp_path / "back"))
        assert ended.returncode == 1, ended.stderr
        assert "full: is a folder, not a symlink" in ended.stderr
        assert (tmp_path / "back/full/precious").read_text() == "precious"
        assert os.readlink(tmp_path / "back/empty") == "elsewhere"
