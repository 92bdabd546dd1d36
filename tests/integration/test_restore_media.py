"""What a medium does (it rots, hangs, lies, holds less) never makes a restore silently wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.played_media import (
    IGNORES_MODES,
    KEEPS_NO_XATTRS,
    REFUSES_OWNERS,
    SHOWS_OLD_ATTRIBUTES,
    disk_image,
    share,
    stopped,
    tool,
    weak_share,
)
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, rot, spoil, the_way, with_a_way


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return furnished(tmp_path)


def test_a_content_that_rotted_on_the_medium_is_told_and_named(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas") / "mail/1")
    said = restore(pair, "--to", pair.folder / "back", status=1)
    assert "another content" in said
    assert "mail/1" in said
    shutil.rmtree(pair.folder / "back")
    assert "another content" in restore(pair, "--path", "mail/1", "--to", pair.folder / "back", status=1)


def test_a_damaged_manifest_is_not_trusted(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas").parent / "manifest.gz")
    assert "manifest" in restore(pair, "--to", pair.folder / "back", status=6)
    assert not (pair.folder / "back").exists()


def test_a_snapshot_of_another_share_is_not_taken_for_ours(pair: PlayedPair) -> None:
    pair.backs_up()
    mark = pair.folder / "nas/drbdbackup/target.json"
    told = json.loads(mark.read_text())
    mark.write_text(json.dumps(told | {"medium": "0" * 32}))
    assert "is expected" in restore(pair, "--to", pair.folder / "back", status=6)


def test_an_older_one_is_never_taken_silently(pair: PlayedPair) -> None:
    pair.add_share("other")
    pair.backs_up("www4", "--target", "other")
    old = pair.copies()[0]["snapshot"]
    pair.backs_up("www4", "--target", "nas")
    newest = pair.copies()[0]["snapshot"]
    (pair.folder / "nas").rename(pair.folder / "pulled")
    said = restore(pair, "--to", pair.folder / "back", status=6)
    assert newest in said
    assert old in said
    assert not (pair.folder / "back").exists()
    restore(pair, "--snapshot", old, "--to", pair.folder / "back")


def test_a_share_that_hangs_is_given_up_and_the_disk_is_taken(pair: PlayedPair) -> None:
    behind = pair.folder / "behind"
    pair.add_disk("disk", str(disk_image(pair.folder / "disk.img")))
    pair.extra = "[limits]\nprobe = 1\n"
    with share(pair.folder / "nas", behind) as played:
        pair.backs_up()
        with stopped(played):
            assert "disk" in restore(pair, "--to", pair.folder / "back")
            restore(pair, "--from", "nas", "--to", pair.folder / "none", status=6)
    assert differences(pair.volume, pair.folder / "back") == []


@pytest.mark.parametrize(
    "weakness",
    [
        REFUSES_OWNERS,
        IGNORES_MODES,
        KEEPS_NO_XATTRS,
        (*REFUSES_OWNERS, *IGNORES_MODES, *KEEPS_NO_XATTRS),
        SHOWS_OLD_ATTRIBUTES,
    ],
)
def test_what_a_weak_share_could_not_hold_comes_back_all_the_same(pair: PlayedPair, weakness: tuple[str, ...]) -> None:
    with share(pair.folder / "nas", pair.folder / "behind", *weakness):
        way = with_a_way(pair.volume)
        pair.backs_up()
        restore(pair, "--to", pair.folder / "back")
        tool("setfacl", "-d", "-m", "u:99:rwx", pair.folder)  # what is made below it must not have it
        restore(pair, "--path", way, "--to", pair.folder / "part")
    assert differences(pair.volume, pair.folder / "back") == []
    assert the_way(pair.folder / "part") == the_way(pair.volume)
    assert os.listxattr(pair.folder / "part" / way) == []


@pytest.mark.parametrize("kind", ["simple", "squashed"])
def test_everything_comes_back_from_a_share_that_holds_next_to_nothing(pair: PlayedPair, kind: str) -> None:
    (pair.volume / "Case").mkdir()
    (pair.volume / "Case/one").write_text("1")
    (pair.volume / "case").mkdir()
    (pair.volume / "case/one").write_text("2")
    with weak_share(pair.folder / "nas", pair.folder / "behind", kind):
        pair.backs_up()
        restore(pair, "--to", pair.folder / "back")
        assert differences(pair.volume, pair.folder / "back") == []
        wanted = pair.folder / "back"
        spoil(pair.volume)
        restore(pair, "--in-place")
        assert differences(wanted, pair.volume) == []
        restore(pair, "--path", "www", "--to", pair.folder / "part")
    assert differences(pair.volume / "www", pair.folder / "part/www") == []


def test_a_manifest_that_lies_cannot_lead_a_write_outside(pair: PlayedPair) -> None:
    from drbdbackup import manifest

    victim = pair.folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("victim")
    os.chmod(victim / "file", 0o600)
    with share(pair.folder / "nas", pair.folder / "behind", *REFUSES_OWNERS):
        pair.backs_up()
        snapshot = pair.newest("nas").parent
        (snapshot / "data/zz").symlink_to(victim)
        file = snapshot / "manifest.gz"
        with manifest.reading(str(file)) as lines:
            kept = list(lines)
        file.unlink()
        writer = manifest.Writer(str(file))
        for line in kept:
            writer.add(*manifest.split(line))
        for kind, path in ((b"l", b"zz"), (b"f", b"zz/file")):
            writer.add(b"- s -", manifest.spool_line(kind, 0o777, 0, 0, 6, 1, 1, 9, 1, 0, path, os.fsencode(victim)))
        writer.close()
        told = json.loads((snapshot / "snapshot.json").read_text())
        (snapshot / "snapshot.json").write_text(json.dumps(told | {"manifest_sha256": writer.sha256}))
        shutil.rmtree(pair.folder / "state-www4")  # else the manifest is not the one that the catalog knows
        shutil.rmtree(pair.folder / "nas/drbdbackup/catalog")
        shutil.rmtree(pair.volume / ".drbdbackup")
        assert pair.run("www4", "sync", "--rebuild").returncode == 0
        restore(pair, "--to", pair.folder / "back", status=1)
    assert (victim / "file").read_text() == "victim"
    assert (victim / "file").stat().st_mode & 0o777 == 0o600


def test_who_can_write_to_the_medium_gives_no_file_another_ones_content_or_owner(pair: PlayedPair) -> None:
    """One who swaps two files there, or makes a web user's program root's, with no content and no manifest changed."""
    for name in ("www/index", "www/other"):
        (pair.volume / name).write_text(name[-5:])
        os.chown(pair.volume / name, 33, 33)
    (pair.volume / "tool").write_text("program")
    (pair.volume / "private").mkdir(mode=0o700)
    os.chown(pair.volume / "tool", 33, 33)
    pair.backs_up()
    tree = pair.newest("nas")
    os.chown(tree / "tool", 0, 0)
    os.chmod(tree / "tool", 0o4755)
    os.chown(tree / "private", 33, 33)
    os.chmod(tree / "private", 0o777)
    restore(pair, "--to", pair.folder / "back")
    assert differences(pair.volume, pair.folder / "back") == []

    (tree / "www/index").rename(tree / "www/third")
    (tree / "www/other").rename(tree / "www/index")
    (tree / "www/third").rename(tree / "www/other")
    said = restore(pair, "--to", pair.folder / "swapped", status=1)
    assert "www/index: has another content" in said
    assert "www/other: has another content" in said
