"""A file's versions are found in all snapshots that can be read, and what could not be looked through is named."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests import preloaded
from tests.integration.test_snapshots import HOSTILE
from tests.played_media import disk_image, nothing_is_left, share, stopped
from tests.played_pair import PlayedPair
from tests.played_restore import rot
from tests.played_sshd import sshd

PAGE = "www/shop/index.php"


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """Three snapshots on the NAS and on www4's disk: two of the first page, then one of the second."""
    played = PlayedPair(tmp_path, targets={"nas": ""})
    played.add_share("nas")
    played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    disk_image(tmp_path / "disk-www4.img")
    (played.volume / "www/shop").mkdir(parents=True)
    wrote(played, "first")
    played.backs_up()
    played.backs_up()
    wrote(played, "second!")
    played.backs_up()
    return played


def wrote(pair: PlayedPair, content: str) -> None:
    (pair.volume / PAGE).write_text(content)


def names(pair: PlayedPair) -> list[str]:
    """All snapshots, newest first."""
    return list(dict.fromkeys(copy["snapshot"] for copy in pair.copies()))


def test_the_versions_of_a_page_come_newest_first_with_the_snapshots_that_hold_them(pair: PlayedPair) -> None:
    third, second, first = names(pair)
    found = pair.json("www4", "find", PAGE)
    [page] = found["paths"]
    assert page["path"] == PAGE
    assert [(one["size"], one["snapshots"]) for one in page["versions"]] == [(7, [third]), (5, [second, first])]
    assert all(len(one["hash"]) == 32 and one["modified_at"] and one["type"] == "file" for one in page["versions"])
    assert [*found["snapshots"]] == [third, second, first]
    assert {one["location"] for one in found["snapshots"].values()} == {f"www4:{pair.folder}/disk-www4.img"}
    assert found["unread"] == []
    assert nothing_is_left(pair.folder)


def test_a_name_a_path_and_a_glob_find_it(pair: PlayedPair) -> None:
    for name in ("index.php", "*.php", "www/*/index.php", "**/index.php", "./www/shop/index.php"):
        ended = pair.run("www4", "find", name)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith(f"{PAGE}: 2 versions\n")
        assert names(pair)[0] in ended.stdout


def test_the_path_on_the_volume_is_the_path_in_it(pair: PlayedPair) -> None:
    assert pair.json("www4", "find", str(pair.volume / PAGE))["paths"][0]["path"] == PAGE
    for elsewhere in ("/etc/passwd", "../x", "www/../../x", "", "/"):
        assert pair.run("www4", "find", elsewhere).returncode == 2


def test_what_is_nowhere_exits_with_6(pair: PlayedPair) -> None:
    ended = pair.run("www4", "find", "nowhere.php")
    assert (ended.returncode, ended.stdout) == (6, "")
    assert "3 snapshots searched" in ended.stderr


def test_without_any_backup_nothing_is_found(tmp_path: Path) -> None:
    assert PlayedPair(tmp_path).run("www4", "find", "x").returncode == 6


def test_what_only_the_nas_holds_comes_from_there(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk-www4.img")
    found = pair.json("www4", "find", PAGE)
    assert {one["location"] for one in found["snapshots"].values()} == {f"nas:{pair.folder}/nas"}
    assert len(found["snapshots"]) == 3


def test_what_cannot_be_read_from_here_is_named_and_no_error(pair: PlayedPair) -> None:
    pair.roles("www5")
    disk_image(pair.folder / "disk-www5.img")
    wrote(pair, "third by www5")
    pair.backs_up("www5")
    newest = names(pair)[0]
    shutil.rmtree(pair.folder / "nas/drbdbackup/raid")
    (pair.folder / "nas/drbdbackup/raid").mkdir()
    found = pair.json("www4", "find", PAGE)
    assert [one["size"] for one in found["paths"][0]["versions"]] == [7, 5]
    assert {one["snapshot"] for one in found["unread"]} == {newest}
    assert any("not configured" in one["why"] for one in found["unread"])
    assert "Not searched:" in pair.run("www4", "find", PAGE).stdout


def test_a_damaged_manifest_is_not_believed_and_the_other_copy_is(pair: PlayedPair) -> None:
    pair.targets.pop("disk")
    rot(pair.newest("nas").parent / "manifest.gz")
    found = pair.json("www4", "find", PAGE)
    assert [one["size"] for one in found["paths"][0]["versions"]] == [5]
    assert "damaged" in found["unread"][0]["why"]
    pair.add_disk("disk", f"{pair.folder}/disk-{{node}}.img")
    assert pair.json("www4", "find", PAGE)["unread"] == []


def test_a_share_that_hangs_is_given_up(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path, extra="[limits]\nprobe = 1\n")
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    disk_image(tmp_path / "disk-www4.img")
    (pair.volume / "page").write_text("x")
    with share(tmp_path / "nas", tmp_path / "behind") as played:
        pair.backs_up("www4", "--target", "nas")
        (pair.volume / "page").write_text("other")
        pair.backs_up("www4", "--target", "disk")
        with stopped(played):
            found = pair.json("www4", "find", "page")
        assert [one["size"] for one in found["paths"][0]["versions"]] == [5]
        assert "nothing moved" in found["unread"][0]["why"]
        assert len(pair.json("www4", "find", "page")["paths"][0]["versions"]) == 2


def test_a_peers_disk_is_looked_through_where_nothing_is_nearer(pair: PlayedPair) -> None:
    forced = (sys.executable, "-m", "drbdbackup", "--config", str(pair.config("www4")), "serve")
    with sshd(pair.folder / "ssh", *forced) as reached:
        pair.extra = reached.table("www4")
        shutil.rmtree(pair.folder / "nas/drbdbackup/raid")
        disk_image(pair.folder / "disk-www5.img")
        found = pair.json("www5", "find", PAGE)
    assert [one["size"] for one in found["paths"][0]["versions"]] == [7, 5]
    assert {one["location"] for one in found["snapshots"].values()} == {f"www4:{pair.folder}/disk-www4.img"}


def test_names_that_are_hard_to_write_are_found_and_shown_harmlessly(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(pair.volume) + b"/" + name))).write_text("odd")
    (pair.volume / "link").symlink_to("/etc/\x1b[31mpasswd")
    pair.backs_up()
    assert {os.fsencode(one["path"]) for one in pair.json("www4", "find", "*")["paths"]} == {*HOSTILE, b"link"}
    for name in HOSTILE:
        found = preloaded.run([*pair.command("www4", "find", "--json", "--"), name], capture_output=True, timeout=60)
        assert found.returncode == 0, (name, found.stderr)
    assert "\x1b" not in pair.run("www4", "find", "*").stdout
