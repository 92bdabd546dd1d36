"""Shares that squash root, know no ACLs, links or symlinks, or fold case: what they lose, the manifest gives back."""

from __future__ import annotations

import os
import stat
import struct
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
    disk_image,
    mounted,
    share,
    tool,
    weak_share,
)
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore
from tests.settled import settled_volume, wait_until_settled

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
        settled_volume(found.volume, furnish)
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
        (pair.volume / "what?").write_text("aside")
        pair.extra = "[limits]\nstall = 20"
        pair.backs_up()
        [aside] = (pair.newest("nas").parent / "aside").iterdir()
        behind = tmp_path / "behind" / aside.relative_to(tmp_path / "nas")
        behind.unlink()
        os.mkfifo(behind)  # whoever opens it waits for a writer
        for name in ("full", "empty"):
            (tmp_path / "back" / name).mkdir(parents=True)
        (tmp_path / "back/full/precious").write_text("precious")
        ended = pair.run("www4", "restore", "--yes", "--merge", "--to", str(tmp_path / "back"))
        assert ended.returncode == 1, ended.stderr
        assert "full: is a folder, not a symlink" in ended.stderr
        assert "what?: is not there" in ended.stderr
        assert (tmp_path / "back/full/precious").read_text() == "precious"
        assert os.readlink(tmp_path / "back/empty") == "elsewhere"


LATE = 16_725_225_600 * 10**9  # in 2500
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who)
    for tag, perm, who in [(1, 6, -1 & 0xFFFFFFFF), *((2, 4, 10_000 + number) for number in range(1000)),
                           (4, 0, -1 & 0xFFFFFFFF), (16, 4, -1 & 0xFFFFFFFF), (32, 0, -1 & 0xFFFFFFFF)]
)  # fmt: skip


@pytest.fixture
def holds_more(tmp_path: Path) -> Iterator[PlayedPair]:
    """A volume (btrfs) that holds more than its targets: a NAS whose inodes have 128 bytes, and a disk (both ext4)."""
    image = tmp_path / "nas.img"
    tool("truncate", "--size", "64M", image)
    tool("mkfs.ext4", "-q", "-F", "-b", "1024", "-I", "128", image)
    with (
        mounted(image, tmp_path / "nas", "loop"),
        mounted(disk_image(tmp_path / "volume.img", "btrfs"), tmp_path / "volume", "loop"),
    ):
        pair = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas"'})
        pair.add_disk("disk", str(disk_image(tmp_path / "disk.img")))
        furnish(pair.volume)
        for name in ("big", "acl", "late", "linked"):
            (pair.volume / name).write_text(name)
        (pair.volume / "folder").mkdir()
        (pair.volume / "link").unlink()
        (pair.volume / "link").symlink_to("www/plain")
        os.link(pair.volume / "linked", pair.volume / "linked-2")
        for name in ("big", "folder", "linked"):
            os.setxattr(pair.volume / name, "user.big", bytes(8000))
        os.setxattr(pair.volume / "link", "trusted.big", bytes(8000), follow_symlinks=False)
        os.setxattr(pair.volume / "acl", "system.posix_acl_access", ACL)
        for name in ("late", "linked", "locked", "link"):
            os.utime(pair.volume / name, ns=(1, LATE), follow_symlinks=False)
        yield pair


SHORT = ["acl", "big", "folder", "late", "link", "linked", "linked-2", "locked"]


def test_what_a_target_cannot_hold_costs_that_entry_and_not_the_night(holds_more: PlayedPair) -> None:
    pair = holds_more
    wait_until_settled(pair.volume)
    def named(*how: str) -> dict[str, list[tuple[str, str]]]:
        told = pair.json("www4", "run", *how, status=3)["runs"][0]["targets"]
        return {one["target"]: sorted((found["path"], found["problem"]) for found in one["problems"]) for one in told}

    for _ in range(2):  # copied, then linked: it is named each time, and foreseen
        foretold, told = named("--dry-run"), named()
        assert {name: [path for path, _ in found] for name, found in told.items()} == {"nas": SHORT, "disk": SHORT}
        assert foretold == told
    assert {copy["problems"] for copy in pair.copies()} == {len(SHORT)}
    pair.json("www4", "verify")
    for target in ("nas", "disk"):
        with mounted(disk_image(pair.folder / "to.img", "btrfs"), pair.folder / f"to-{target}", "loop") as at:
            restore(pair, "--from", target, "--to", at / "back")
            assert differences(pair.volume, at / "back") == []
            restore(pair, "--from", target, "--path", "folder", "--to", at / "part")
            assert os.getxattr(at / "part/folder", "user.big") == bytes(8000)
    (pair.volume / "folder/new").write_text("new")
    restore(pair, "--in-place", "--no-safety")
    assert not (pair.volume / "folder/new").exists()  # what is in such a folder is known


def test_a_time_that_cannot_be_held_where_it_is_restored_is_told(holds_more: PlayedPair) -> None:
    pair = holds_more
    pair.targets["more"] = f'kind = "nas"\npath = "{pair.folder}/more"'
    with mounted(disk_image(pair.folder / "more.img", "btrfs"), pair.folder / "more", "loop"):
        pair.backs_up("www4", "--target", "more")
        said = restore(pair, "--from", "more", "--path", "late", "--to", pair.folder / "back", status=1)
        assert "late" in said
    pair.json("www4", "run", "--target", "nas", status=3)
    said = restore(pair, "--from", "nas", "--path", "late", "--to", pair.folder / "given", status=1)
    assert said.count("late: ") == 1, "though the manifest gives it, too"


def test_a_file_that_is_too_large_for_a_target_costs_that_file_and_many_names_cost_nothing(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    for name in ("a", "b", "new\nline", "z"):
        (pair.volume / name).write_bytes(name.encode() * ((1 << 21) if name == "new\nline" else 10))
    for number in range(10):
        os.link(pair.volume / "a", pair.volume / f"a-{number}")
    with weak_share(tmp_path / "nas", tmp_path / "behind", "small"):
        told = pair.json("www4", "run", status=3)["runs"][0]["targets"][0]
        assert [found["path"] for found in told["problems"]] == ["new\nline"]
        restore(pair, "--to", pair.folder / "back")
    assert sorted({*os.listdir(pair.volume)} - {*os.listdir(pair.folder / "back")}) == [".drbdbackup", "new\nline"]
    assert (pair.folder / "back/a-9").stat().st_nlink == 11


def test_inodes_are_blamed_where_inodes_are_missing(tmp_path: Path) -> None:
    image = tmp_path / "nas.img"
    tool("truncate", "--size", "64M", image)
    tool("mkfs.ext4", "-q", "-F", "-N", "64", image)
    pair = PlayedPair(tmp_path, {"nas": f'kind = "nas"\npath = "{tmp_path}/nas"'})
    for number in range(100):
        (pair.volume / f"file-{number}").write_text("x")
    with mounted(image, tmp_path / "nas", "loop"):
        error = pair.json("www4", "run", status=1)["runs"][0]["targets"][0]["error"]
        assert error["code"] == "target.full"
        assert "inodes" in error["message"]
