"""Before a restore goes over the volume, what is there is kept: apart from the backups, found by its name only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import preloaded
from tests.played_media import disk_image, mounted, nothing_is_left, tool, unmount, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, rot, spoil
from tests.played_volume import on_a_device
from tests.settled import wait_until_settled


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return furnished(tmp_path)


def safety_copies(pair: PlayedPair, node: str = "www4") -> list[dict[str, Any]]:
    return [copy for copy in pair.json(node, "list")["copies"] if copy["purpose"] == "safety"]


def cloned(volume: Path, to: Path) -> Path:
    tool("rsync", "-aHAXS", "--modify-window=-1", "--exclude=/.drbdbackup", f"{volume}/", f"{to}/")
    return to


def test_what_was_there_can_be_brought_back(pair: PlayedPair) -> None:
    pair.backs_up()
    spoil(pair.volume)
    before = cloned(pair.volume, pair.folder / "before")
    said = restore(pair, "--in-place")
    (kept,) = safety_copies(pair)
    assert kept["snapshot"] in said
    restore(pair, "--snapshot", kept["snapshot"], "--to", pair.folder / "back")
    assert differences(before, pair.folder / "back") == []


def test_its_name_is_enough_to_verify_it_and_to_see_what_the_restore_did(pair: PlayedPair) -> None:
    pair.backs_up()
    backup = pair.newest("nas").parent.name
    spoil(pair.volume)
    restore(pair, "--in-place")
    (kept,) = safety_copies(pair)
    did = {one["path"]: one["change"] for one in pair.json("www4", "diff", kept["snapshot"], "now")["changes"]}
    assert (did["intruders/deep/one"], did["www/site/same"]) == ("removed", "content")
    verified = pair.json("www4", "verify", kept["snapshot"])["copies"]
    assert [(one["copy"]["snapshot"], one["well"]) for one in verified] == [(kept["snapshot"], True)]
    assert safety_copies(pair)[0]["verified_at"] is not None
    rot(Path(kept["path"]) / "mail/1")
    assert "mail/1" in pair.run("www4", "verify", kept["snapshot"]).stderr
    assert safety_copies(pair)[0]["damaged_at"] is not None
    shutil.rmtree(Path(kept["path"]).parent)
    assert pair.run("www4", "verify", kept["snapshot"]).returncode == 6
    assert [one["copy"]["snapshot"] for one in pair.json("www4", "verify")["copies"]] == [backup]


def test_nobody_takes_it_for_a_backup(pair: PlayedPair) -> None:
    pair.backs_up()
    newest = pair.newest("nas")
    spoil(pair.volume)
    restore(pair, "--in-place")
    (kept,) = safety_copies(pair)
    assert [copy["snapshot"] for copy in pair.copies()] == [newest.parent.name]
    assert os.readlink(newest.parents[1] / "latest") == newest.parent.name
    assert newest.parent.name in restore(pair, "--to", pair.folder / "back")
    assert kept["snapshot"] not in restore(pair, "--at", "today", "--dry-run", "--to", pair.folder / "other")
    assert "SAFETY COPY" in pair.run("www4", "list").stdout
    pair.backs_up()
    made = json.loads((pair.newest("nas").parent / "snapshot.json").read_text())
    assert made["base"] == newest.parent.name


def test_it_goes_to_the_disk_first(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk.img")
    pair.add_disk("disk", str(pair.folder / "disk.img"))
    pair.backs_up()
    restore(pair, "--in-place")
    assert [copy["target"] for copy in safety_copies(pair)] == ["disk"]
    assert nothing_is_left(pair.folder)


def test_an_emptied_volume_is_kept_as_it_is_and_blocks_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    wanted = cloned(pair.volume, pair.folder / "wanted")
    for entry in pair.volume.iterdir():
        if entry.name != ".drbdbackup":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    (pair.volume / "left").write_text("left")
    assert "(1 file, 4 B)" in restore(pair, "--in-place")
    os.utime(pair.volume, ns=(0, wanted.stat().st_mtime_ns))
    assert differences(wanted, pair.volume) == []
    assert [copy["files"] for copy in safety_copies(pair)] == [1]
    pair.backs_up()


def test_where_none_can_be_made_nothing_is_replaced(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.add_disk("disk", str(pair.folder / "gone.img"))
    spoil(pair.volume)
    (pair.folder / "nas/drbdbackup/raid/safety").write_text("in the way")
    before = cloned(pair.volume, pair.folder / "before")
    said = restore(pair, "--in-place", status=1)
    assert "--no-safety" in said
    assert "gone.img" in said
    assert differences(before, pair.volume) == []
    restore(pair, "--in-place", "--no-safety")
    assert not (pair.volume / "intruders").exists()


def test_a_target_without_room_is_passed_over_and_keeps_its_backups(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk.img")
    pair.add_disk("disk", str(pair.folder / "disk.img"))
    pair.targets["disk"] += '\non_full = "replace"\nretention = { daily = 0, weekly = 0, monthly = 0, minimum = 1 }'
    pair.backs_up()
    (pair.volume / "large").write_bytes(os.urandom(60 << 20))
    restore(pair, "--in-place")
    assert [copy["target"] for copy in safety_copies(pair)] == ["nas"]
    assert len(pair.copies(target="disk")) == 1


def test_the_other_node_knows_it_and_a_lost_catalog_finds_it_again(pair: PlayedPair) -> None:
    pair.backs_up()
    restore(pair, "--in-place")
    kept = safety_copies(pair)
    pair.roles("www5")
    assert [copy["snapshot"] for copy in safety_copies(pair, "www5")] == [kept[0]["snapshot"]]
    for node in ("www4", "www5"):
        shutil.rmtree(pair.folder / f"state-{node}")
    shutil.rmtree(pair.volume / ".drbdbackup")
    shutil.rmtree(pair.folder / "nas/drbdbackup/catalog")
    pair.run("www4", "sync", "--rebuild")
    assert all(copy["signed"] for copy in kept)
    assert safety_copies(pair) == [{**copy, "signed": False} for copy in kept]
    assert len(pair.copies()) == 1


def backdated(pair: PlayedPair, days: int) -> str:
    """Let the one safety copy have been made so many days ago; its name."""
    folder = pair.folder / "nas/drbdbackup/raid/safety"
    (old,) = folder.iterdir()
    then = datetime.now(UTC) - timedelta(days=days)
    name = f"{then:%Y%m%dT%H%M%SZ}-www4-safety"
    told = json.loads((old / "snapshot.json").read_text()) | {"snapshot": name}
    (old / "snapshot.json").write_text(json.dumps(told | {"started_at": f"{then:%Y-%m-%dT%H:%M:%SZ}"}))
    old.rename(folder / name)
    return name


@pytest.mark.parametrize(("days", "left"), [(6, 1), (8, 0)])
def test_it_goes_after_a_week_when_a_backup_was_made_since(pair: PlayedPair, days: int, left: int) -> None:
    pair.backs_up()
    restore(pair, "--in-place")
    name = backdated(pair, days)
    pair.backs_up()
    pair.backs_up()
    assert [copy["snapshot"] for copy in safety_copies(pair)] == [name] * left
    assert os.listdir(pair.folder / "nas/drbdbackup/raid/safety") == [name] * left


def test_it_makes_way_for_a_backup_that_needs_its_room(pair: PlayedPair) -> None:
    disk_image(pair.folder / "disk.img")
    pair.add_disk("disk", str(pair.folder / "disk.img"))
    large = pair.volume / "large"
    large.write_bytes(os.urandom(13 << 20))
    pair.backs_up()
    large.write_bytes(os.urandom(13 << 20))
    restore(pair, "--in-place", "--path", "www")
    assert [copy["target"] for copy in safety_copies(pair)] == ["disk"]
    large.write_bytes(os.urandom(13 << 20))
    pair.backs_up()
    assert len(pair.copies(target="disk")) == 2
    assert safety_copies(pair) == []


def test_one_removed_by_hand_is_forgotten(pair: PlayedPair) -> None:
    pair.backs_up()
    restore(pair, "--in-place")
    shutil.rmtree(pair.folder / "nas/drbdbackup/raid/safety")
    pair.backs_up()
    assert safety_copies(pair) == []


def test_a_failover_in_its_midst_replaces_nothing(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        for file in pair.volume.glob("file-*"):
            file.write_bytes(os.urandom(1 << 20))
        wait_until_settled(pair.volume)
        device = pair.resource.split('"')[1]
        restoring = begun(pair)
        wait_for(lambda: [*pair.folder.glob("nas/drbdbackup/raid/.partial-*-safety/data/*file-*")], "the safety copy")
        unmount(pair.volume)
        assert restoring.wait(60) == 7
        with mounted(device, pair.volume):
            changed = {file.name: file.read_bytes() for file in pair.volume.glob("file-*")}
            assert all((pair.newest("nas") / name).read_bytes() != content for name, content in changed.items())
            pair.backs_up()
            assert safety_copies(pair) == []


def begun(pair: PlayedPair) -> subprocess.Popen[bytes]:
    return preloaded.Popen(
        pair.command("www4", "restore", "--yes", "--in-place"), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
