"""A verify finds what a medium did to a copy, calls nothing else damage, and changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import xxhash
from msgspec.structs import replace

from drbdbackup.catalog import bodies, store, view
from drbdbackup.manifest import SETTLED, Recorded
from drbdbackup.pipeline.files import tree
from drbdbackup.pipeline.files.tree import open_folder
from drbdbackup.pipeline.verify.verification import Verification, content
from tests import preloaded
from tests.integration.test_snapshots import HOSTILE, furnish
from tests.played_media import (
    IGNORES_MODES,
    KEEPS_NO_XATTRS,
    REFUSES_OWNERS,
    disk_image,
    mounted,
    nothing_is_left,
    share,
    stopped,
    tool,
    wait_for,
    weak_share,
)
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore, rot

if TYPE_CHECKING:
    from drbdbackup.pipeline.cage.worker import Channel
    from drbdbackup.pipeline.copies.open_copy import OpenCopy


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    furnish(played.volume)
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(played.volume) + b"/www/" + name))).write_text("odd")
    return played


def verify(pair: PlayedPair, *args: str, status: int = 0) -> str:
    ended = pair.run("www4", "verify", *args)
    assert ended.returncode == status, f"{ended.returncode}: {ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def test_a_good_copy_is_well_and_the_catalog_knows_it(pair: PlayedPair) -> None:
    pair.backs_up()
    assert pair.copies()[0]["verified_at"] is None
    verify(pair)
    assert pair.copies()[0]["verified_at"] is not None


@pytest.mark.parametrize("fstype", ["ext4", "btrfs"])
def test_a_disk_is_read_and_let_go(pair: PlayedPair, fstype: str) -> None:
    pair.targets.clear()
    image = disk_image(pair.folder / "disk.img", fstype)
    pair.add_disk("disk", str(image))
    pair.backs_up()
    verify(pair)
    assert nothing_is_left(pair.folder)
    newest = pair.copies()[0]["snapshot"]
    with mounted(image, pair.folder / "by-hand", "loop") as at:
        data = at / "drbdbackup/raid" / newest / "data"
        if fstype == "btrfs":
            tool("btrfs", "property", "set", "-t", "subvol", data, "ro", "false")
        rot(data / "mail/1")
    assert "mail/1" in verify(pair, status=1)


def missing(data: Path) -> str:
    (data / "mail/1-again").unlink()
    return "mail/1-again"


def shorter(data: Path) -> str:
    os.truncate(data / "www/site/same", 3)
    return "www/site/same"


def bent(data: Path) -> str:
    (data / "old").unlink()
    (data / "old").symlink_to("/etc")
    return "old"


def swapped(data: Path) -> str:
    (data / "queue").unlink()
    (data / "queue").write_text("")
    return "queue"


def opened_up(data: Path) -> str:
    seen = (data / "www/site/same").stat()
    os.chmod(data / "www/site/same", 0o777)
    os.utime(data / "www/site/same", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return "www/site/same"


def given_away(data: Path) -> str:
    os.chown(data / "www/site/same", 7, 7)
    os.chmod(data / "www/site/same", 0o4750)
    return "www/site/same"


def renumbered(data: Path) -> str:
    (data / "null").unlink()
    os.mknod(data / "null", 0o20666, os.makedev(1, 5))
    return "null"


def rotten(data: Path) -> str:
    rot(data / "mail/1")
    return "mail/1"


def emptied(data: Path) -> str:
    shutil.rmtree(data / "www")
    return "www"


@pytest.mark.parametrize(
    "damage",
    [missing, shorter, bent, swapped, opened_up, given_away, renumbered, rotten, emptied],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_found_and_named_and_the_copy_is_not_the_backup_any_more(
    pair: PlayedPair, damage: Callable[[Path], str]
) -> None:
    pair.backs_up()
    path = damage(pair.newest("nas"))
    assert path in verify(pair, status=1)
    assert pair.json("www4", "latest", status=6)["backup"] is None


def test_a_damaged_manifest_is_damage(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas").parent / "manifest.gz")
    assert "manifest" in verify(pair, status=1)
    assert pair.json("www4", "latest", status=6)["backup"] is None


def test_what_is_well_again_is_the_backup_again(pair: PlayedPair) -> None:
    pair.backs_up()
    rot(pair.newest("nas") / "mail/1")
    newest = pair.newest("nas")
    verify(pair, status=1)
    second = int(time.time())
    rot(newest / "mail/1")
    wait_for(lambda: int(time.time()) > second, "the second to pass: facts have whole ones")
    verify(pair, newest.parent.name)
    assert pair.json("www4", "latest")["backup"] is not None


def test_every_entry_is_looked_at_though_only_a_sample_is_read(pair: PlayedPair) -> None:
    pair.backs_up()
    newest = pair.newest("nas")
    verify(pair, "--sample", "0.0001%")
    (newest / "www/site/intruder").write_text("x")
    assert "intruder" in verify(pair, "--sample", "0.0001%", status=1)
    for wrong in ("0%", "101%", "5", "-5%", "many"):
        verify(pair, "--sample", wrong, status=2)


def test_the_smallest_sample_reads_a_file(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    for name in ("one", "two"):
        (pair.volume / name).write_text(name)
    pair.backs_up()
    told = pair.json("www4", "verify", "--sample", "0.0001%")
    assert [one["files"] for one in told["copies"]] == [1]
    for name in ("one", "two"):
        rot(pair.newest("nas") / name)
    assert "another content" in verify(pair, "--sample", "0.0001%", status=1)


def test_a_copy_of_nothing_is_well(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    (pair.volume / "empty").mkdir()
    pair.backs_up()
    verify(pair)
    assert pair.copies()[0]["verified_at"] is not None


def test_a_snapshot_can_be_named(pair: PlayedPair) -> None:
    pair.backs_up()
    old = pair.newest("nas")
    pair.backs_up()
    (old / "www/site/intruder").write_text("x")
    verify(pair)
    verify(pair, old.parent.name, status=1)
    verify(pair, "1999", status=6)


def test_without_any_copy_nothing_is_found(pair: PlayedPair) -> None:
    verify(pair, status=6)


def test_a_target_that_cannot_be_read_proves_nothing_about_its_copies(pair: PlayedPair) -> None:
    pair.add_share("other")
    pair.backs_up()
    (pair.folder / "other").rename(pair.folder / "pulled")
    assert "other" in verify(pair, status=3)
    (pair.folder / "nas").rename(pair.folder / "pulled-too")
    verify(pair, status=1)
    (pair.folder / "pulled").rename(pair.folder / "other")
    (pair.folder / "pulled-too").rename(pair.folder / "nas")
    assert len(pair.copies()) == 2


def test_a_share_that_hangs_is_given_up(pair: PlayedPair) -> None:
    pair.extra = "[limits]\nprobe = 1\n"
    with share(pair.folder / "nas", pair.folder / "behind") as played:
        pair.backs_up()
        with stopped(played):
            assert "nothing moved" in verify(pair, status=1)
        verify(pair)


def test_a_copy_that_somebody_removed_is_not_the_backup_any_more(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.json("www5", "sync")
    shutil.rmtree(pair.newest("nas").parent)
    told = pair.run("www5", "verify")  # to the node that stands by, the other one may have pruned it a moment ago
    assert (told.returncode, "`drbdbackup pin`" in told.stderr) == (6, True)
    assert [copy["damaged_at"] for copy in pair.copies("www5")] == [None]
    [gone] = pair.json("www4", "verify", status=6)["copies"]
    assert (gone["error"]["code"], gone["problem_count"]) == ("copy.not-found", 0)
    assert pair.json("www4", "latest", status=6)["backup"] is None
    assert pair.json("www4", "list", status=6)["error"]["code"] == "copy.none", "it is no damaged copy either"
    pair.backs_up()
    (pair.newest("nas").parent / "snapshot.json").unlink()  # only a folder that is not there is gone
    assert "snapshot.json" in verify(pair, status=1)


def test_a_copy_that_a_run_prunes_meanwhile_is_not_called_damaged(pair: PlayedPair) -> None:
    with share(pair.folder / "nas", pair.folder / "behind") as played:
        pair.backs_up()
        copy = view.copies(str(pair.folder / "state-www4"), "www4", "raid", ["nas"])[0]
        behind = pair.folder / "behind" / os.path.relpath(pair.newest("nas").parent, pair.folder / "nas")
        with stopped(played):
            verifying = preloaded.Popen(pair.command("www4", "verify"), stdout=-1, stderr=-1)
            wait_for(lambda: list((pair.folder / "state-www4").glob("scratch/*")), "the verify to begin")
            shutil.rmtree(behind)
            gone = bodies.pruned("www4", datetime.now(UTC), copy, "more than are kept")
            store.record(str(pair.folder / "state-www4"), "www4", [gone])
        said = verifying.communicate(timeout=60)[1]
    assert verifying.returncode == 6
    assert b"was pruned" in said


@pytest.mark.parametrize(
    "weakness", [REFUSES_OWNERS, IGNORES_MODES, KEEPS_NO_XATTRS, (*REFUSES_OWNERS, *IGNORES_MODES, *KEEPS_NO_XATTRS)]
)
def test_what_a_weak_share_never_held_is_not_missed(pair: PlayedPair, weakness: tuple[str, ...]) -> None:
    with share(pair.folder / "nas", pair.folder / "behind", *weakness):
        pair.backs_up()
        verify(pair)
        missing(pair.newest("nas"))
        verify(pair, status=1)


@pytest.mark.parametrize("kind", ["simple", "squashed"])
def test_what_lies_aside_on_a_share_is_read_too(pair: PlayedPair, kind: str) -> None:
    for name in ("Case", "case"):
        (pair.volume / name).write_text(name)
    for name in ("case", "CASE"):
        (pair.volume / f"{name}.img").touch()
        os.truncate(pair.volume / f"{name}.img", 4 << 20)
    for number in range(3):
        os.link(pair.volume / "case.img", pair.volume / f"case:{number}")
    with weak_share(pair.folder / "nas", pair.folder / "behind", kind):
        with (pair.volume / "user's").open("wb") as file:
            file.truncate(3 << 40)
        os.chown(pair.volume / "user's", 33, 33)
        for _ in range(2):  # this share does not say where holes are
            told = pair.json("www4", "run", status=3)["runs"][0]["targets"][0]
            assert [one["path"] for one in told["problems"]] == ["user's"]
        (pair.volume / "user's").unlink()
        pair.backs_up()
        verify(pair)
        restore(pair, "--to", pair.folder / "back")
        assert differences(pair.volume, pair.folder / "back") == []
        if kind == "simple":
            aside = (pair.newest("nas").parent / "aside").iterdir()
            first, second, *_ = sorted(path for path in aside if path.stat().st_size < 1 << 20)
            rot(first)
            there = pair.folder / "behind" / second.relative_to(pair.folder / "nas")
            there.unlink()
            os.mkfifo(there)
            ended = pair.run("www4", "restore", "--to", str(pair.folder / "to"), "--yes")
            assert ended.returncode == 1
            assert "plain file" in ended.stderr
            assert "another content" in verify(pair, status=1)


def test_a_write_during_the_backup_is_not_damage(pair: PlayedPair) -> None:
    """A log that grows while it is copied: what was copied is what counts."""
    log = pair.volume / "log"
    log.write_bytes(os.urandom(1 << 20))
    writer = subprocess.Popen(["sh", "-c", f"while :; do echo line >> '{log}'; done"])
    try:
        pair.backs_up()
    finally:
        writer.kill()
        writer.wait()
    verify(pair)


def test_nothing_on_the_medium_changes(pair: PlayedPair) -> None:
    pair.backs_up()
    snapshot = pair.newest("nas").parent
    listed = ["find", snapshot, "-printf", "%p %s %T@ %C@ %m\\n"]
    before = subprocess.run(listed, capture_output=True, check=True).stdout
    verify(pair)
    assert subprocess.run(listed, capture_output=True, check=True).stdout == before


def test_a_file_with_many_names_is_read_once(tmp_path: Path) -> None:
    """A user may give 65,000 names to a large one, which would be read for days."""
    file = tmp_path / "first"
    file.write_bytes(b"x")
    os.link(file, tmp_path / "second")
    told = list[object]()
    channel = cast("Channel", SimpleNamespace(send_progress=told.append))
    verifying = Verification(copy=cast("OpenCopy", None), share=1.0, channel=channel)
    with open_folder(str(tmp_path)) as folder:
        seen = tree.entry_at(folder, b"first", b"first")
        one = Recorded(seen, xxhash.xxh128(b"x").hexdigest(), SETTLED, b"")
        assert content(verifying, folder, b"first", one, 1) == ""
        assert content(verifying, folder, b"second", one, 1) == ""
        assert len(told) == 1
        assert content(verifying, folder, b"second", replace(one, hash="another"), 1) != ""
        assert len(told) == 1
        file.write_bytes(b"y")
        assert content(verifying, folder, b"second", one, 1) != ""
        assert len(told) == 2
        with pytest.raises(FileNotFoundError):
            content(verifying, folder, b"not there", one, 1)
    assert (verifying.files, verifying.size) == (2, 2)
