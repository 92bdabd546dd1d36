"""Whoever can write to a medium can give attributes and ACLs to what is backed up there: none of them comes back."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.integration.test_forged_copies import write_sidecar
from tests.played_media import disk_image, mounted, tool
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore
from tests.settled import wait_until_settled

MAY_CHANGE_USER = struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0)  # cap_setuid+ep
CAPABILITY = "security.capability"
LONG = bytes(range(256)) * 12


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """With attributes, long ones too, ACLs and a capability of its own; names of one file, and a symlink."""
    played = PlayedPair(tmp_path)
    www = played.volume / "www/shop"
    www.mkdir(parents=True)
    for name in ("plain", "acl", "able", "long", "named"):
        (www / name).write_text(name)
    os.link(www / "named", www / "also-named")
    os.symlink("plain", www / "link")
    os.setxattr(www / "plain", "user.kept", b"1")
    os.setxattr(www / "link", "trusted.kept", b"2", follow_symlinks=False)
    os.setxattr(www / "long", "user.long", LONG)
    os.setxattr(www / "named", "user.kept", b"3")
    os.setxattr(www / "able", CAPABILITY, MAY_CHANGE_USER)
    tool("setfacl", "-m", "g::---,u:1234:rwx", www / "acl")
    tool("setfacl", "-m", "g::---,u:1234:rwx", www)
    tool("setfacl", "-d", "-m", "u:1234:rwx", played.volume / "www")
    wait_until_settled(played.volume)
    return played


def attack(data: Path) -> set[str]:
    """Attributes and rights for entries that had none, others for those that had some, and some taken away."""
    shop = data / "www/shop"
    os.setxattr(shop / "plain", CAPABILITY, MAY_CHANGE_USER)
    os.setxattr(shop / "acl", "user.added", b"x")
    tool("setfacl", "-m", "u:33:rwx", shop / "able")
    os.setxattr(shop / "long", "user.long", LONG[:-1])
    os.setxattr(shop / "link", "trusted.kept", b"other", follow_symlinks=False)
    os.removexattr(shop / "named", "user.kept")
    tool("setfacl", "-b", shop)
    tool("setfacl", "-d", "-m", "u:33:rwx", data / "www")
    os.setxattr(data, "trusted.overlay.opaque", b"y")
    names = {"plain", "acl", "able", "long", "link", "named", "also-named"}
    return {*(f"www/shop/{name}" for name in names), "www/shop", "www", "."}


def is_restored(pair: PlayedPair, at: Path, data: Path) -> None:
    """All is as it was, but for the long attribute, whose value nobody knows."""
    os.setxattr(at / "www/shop/long", "user.long", LONG)
    stamp = (pair.volume / "www/shop/long").stat().st_mtime_ns
    os.utime(at / "www/shop/long", ns=(stamp, stamp))
    assert differences(pair.volume, at) == []
    assert os.listxattr(data) != []  # the attack was one


def named(ended: dict[str, object]) -> set[str]:
    problems = ended["problems"]
    assert isinstance(problems, list)
    return {one["path"] for one in problems}


def test_what_comes_back_has_the_attributes_that_were_backed_up(pair: PlayedPair, tmp_path: Path) -> None:
    """To an empty folder, one path, and in place; and verify names each entry."""
    pair.backs_up()
    data = pair.newest("nas")
    attacked = attack(data)
    done = pair.json("www4", "restore", "--yes", "--to", str(tmp_path / "whole"), status=1)
    is_restored(pair, tmp_path / "whole", data)
    assert named(done) == attacked

    told = restore(pair, "--to", tmp_path / "part", "--path", "www/shop/able", status=1)
    assert "www/shop/able" in told
    assert os.listxattr(tmp_path / "part/www/shop/able") == [CAPABILITY]
    assert os.listxattr(tmp_path / "part/www") == ["system.posix_acl_default"]
    for way in ("www", "www/shop"):
        assert tool("getfacl", "-cp", tmp_path / "part" / way) == tool("getfacl", "-cp", pair.volume / way)

    kept = tmp_path / "kept"
    tool("cp", "-a", pair.volume, kept)
    os.removexattr(pair.volume / "www/shop/able", CAPABILITY)
    restore(pair, "--in-place", "--no-safety", status=1)
    os.setxattr(pair.volume / "www/shop/long", "user.long", LONG)
    os.utime(pair.volume / "www/shop/long", ns=2 * ((kept / "www/shop/long").stat().st_mtime_ns,))
    assert differences(kept, pair.volume) == []
    [seen] = pair.json("www4", "verify", "--target", "nas", status=1)["copies"]
    assert named(seen) == attacked


def test_what_is_fetched_has_them_too(pair: PlayedPair, tmp_path: Path) -> None:
    """The other node's disk gets what was backed up; a scrub names what is not."""
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"disk-{node}.img", size="600M")  # of blocks that hold the long attribute
    pair.extra = '[verify]\nshare = "100%"\n'
    pair.backs_up()
    data = pair.newest("nas")
    attacked = attack(data)
    [refused] = pair.json("www5", "replicate", status=1)["replicated"]
    assert "www/shop/long: has other attributes" in refused["error"]["message"]
    os.setxattr(data / "www/shop/long", "user.long", LONG)
    [one] = pair.json("www5", "replicate")["replicated"]
    assert one["error"] is None
    os.setxattr(data / "www/shop/long", "user.long", LONG[:-1])
    with mounted(tmp_path / "disk-www5.img", tmp_path / "look", "loop") as at:
        assert differences(pair.volume, at / "drbdbackup/raid" / one["snapshot"] / "data") == []
    [verified] = pair.json("www5", "verify", "--target", "disk")["copies"]
    assert verified["unknown_attributes"] == 0

    [scrubbed] = [copy for night in pair.json("www5", "run", status=1)["scrubbed"] for copy in night["copies"]]
    assert named(scrubbed) == attacked


def test_a_folder_has_its_owner_and_mode_or_is_damaged(pair: PlayedPair) -> None:
    """A drill restores it right, and finds only what else was added."""
    pair.backs_up()
    data = pair.newest("nas")
    os.chmod(data / "www", 0o777)
    os.chown(data / "www/shop", 33, 33)
    assert pair.run("www4", "drill").returncode == 0
    os.setxattr(data / "www/shop/plain", CAPABILITY, MAY_CHANGE_USER)
    assert named(pair.json("www4", "drill", status=1)) == {"www/shop/plain"}
    [seen] = pair.json("www4", "verify", "--target", "nas", status=1)["copies"]
    assert named(seen) == {"www", "www/shop", "www/shop/plain"}


def as_an_older_version_made_it(pair: PlayedPair) -> Path:
    """The newest copy on the NAS, with a manifest that says nothing of attributes; nobody vouches for it."""
    data = pair.newest("nas")
    file = data.parent / "manifest.gz"
    head, *lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    older = (b" ".join((*line.split(b" ", 3)[:2], b"-", line.split(b" ", 3)[3])) for line in lines)
    file.write_bytes(gzip.compress(b"".join((head, *older))))
    write_sidecar(data.parent)
    shutil.rmtree(pair.folder / "state-www4")
    (pair.folder / "state-www4").mkdir(mode=0o700)
    shutil.rmtree(pair.folder / "nas/drbdbackup/catalog")
    assert pair.run("www4", "sync", "--rebuild").returncode in (0, 3)
    return data


def test_of_an_older_copy_on_a_share_nothing_comes_back_that_only_root_may_give(
    pair: PlayedPair, tmp_path: Path
) -> None:
    """Its attributes are not known: verify says so. The next night notes what the volume has of them."""
    pair.backs_up()
    data = as_an_older_version_made_it(pair)
    os.setxattr(data / "www/shop/plain", CAPABILITY, MAY_CHANGE_USER)
    [seen] = pair.json("www4", "verify", "--target", "nas")["copies"]
    assert (seen["well"], seen["unknown_attributes"]) == (True, 9)
    name = data.parent.name
    done = pair.json("www4", "restore", "--yes", "--snapshot", name, "--to", str(tmp_path / "old"), status=1)
    assert named(done) == {"www/shop/plain", "www/shop/able", "www/shop/link"}
    shop = tmp_path / "old/www/shop"
    assert [os.listxattr(shop / name) for name in ("plain", "able", "long")] == [["user.kept"], [], ["user.long"]]
    assert tool("getfacl", "-cp", shop / "acl") == tool("getfacl", "-cp", pair.volume / "www/shop/acl")

    [signed] = pair.json("www4", "target", "sign", "nas")["copies"]  # else nothing is linked from it
    assert signed["well"]
    (pair.volume / "new").write_text("x")
    pair.backs_up()
    linked = pair.newest("nas")
    assert (linked / "www/shop/plain").stat().st_ino == (data / "www/shop/plain").stat().st_ino
    done = pair.json("www4", "restore", "--yes", "--to", str(tmp_path / "new"), status=1)
    assert (named(done), differences(pair.volume, tmp_path / "new")) == ({"www/shop/plain"}, [])
    assert all(word != b"-" for word in words(linked))


def words(data: Path) -> list[bytes]:
    lines = gzip.decompress((data.parent / "manifest.gz").read_bytes()).splitlines()[1:]
    return [line.split(b" ", 3)[2] for line in lines]
