"""A restore over the volume makes it what it was, and deletes nothing that the snapshot could not know."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import preloaded
from tests.played_media import disk, disk_image, mount_points, nothing_is_left, tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, spoil, the_way, with_a_way
from tests.played_terminal import on_a_terminal
from tests.played_volume import on_a_device


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return furnished(tmp_path)


def test_in_place_makes_the_volume_what_the_snapshot_was(pair: PlayedPair) -> None:
    pair.backs_up()
    wanted = pair.folder / "wanted"
    restore(pair, "--to", wanted)
    spoil(pair.volume)
    before = os.stat(pair.volume / ".drbdbackup").st_ino
    (pair.volume / "lost+found").mkdir()
    said = restore(pair, "--in-place")
    assert "intruder" in said
    assert differences(wanted, pair.volume) == []
    assert os.stat(pair.volume / ".drbdbackup").st_ino == before
    assert (pair.volume / "lost+found").is_dir()


def test_in_place_leaves_alone_what_the_backup_leaves_out(pair: PlayedPair) -> None:
    pair.resource = 'exclude = ["cache/"]'
    (pair.volume / "cache").mkdir()
    (pair.volume / "cache/warm").write_text("warm")
    pair.backs_up()
    (pair.volume / "new/cache").mkdir(parents=True)
    (pair.volume / "new/cache/warm").write_text("warm")
    (pair.volume / "new/intruder").write_text("x")
    restore(pair, "--in-place")
    assert (pair.volume / "cache/warm").read_text() == "warm"
    assert (pair.volume / "new/cache/warm").read_text() == "warm"
    assert not (pair.volume / "new/intruder").exists()


def test_in_place_leaves_alone_what_was_left_out_of_the_backup_then(pair: PlayedPair) -> None:
    pair.resource = 'exclude = ["cache/"]'
    write(pair.volume / "cache/warm")
    pair.backs_up()
    pair.resource = ""
    tell(pair, exclude=["cache/"], left_out=["mounted"])
    for path in ("mounted/kept", "intruder"):
        write(pair.volume / path)
    restore(pair, "--in-place")
    assert not (pair.volume / "intruder").exists()
    assert (pair.volume / "cache/warm").exists()
    assert (pair.volume / "mounted/kept").exists()


@pytest.mark.parametrize("told", [{"exclude": "cache/"}, {"left_out": [1]}])
def test_in_place_deletes_nothing_if_what_was_left_out_is_unknown(pair: PlayedPair, told: dict[str, object]) -> None:
    pair.backs_up()
    tell(pair, **told)
    write(pair.volume / "intruder")
    assert "nothing is deleted" in restore(pair, "--in-place")
    assert (pair.volume / "intruder").exists()


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("x")


def tell(pair: PlayedPair, **told: object) -> None:
    """Have the newest copy's sidecar say something else, as one of an older version may: no node vouches for that."""
    file = pair.newest("nas").parent / "snapshot.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    for catalogs in ("state-www4/incoming", "nas/drbdbackup/catalog", "volume/.drbdbackup"):
        shutil.rmtree(pair.folder / catalogs, ignore_errors=True)
    for catalog in (pair.folder / "state-www4").glob("catalog.db*"):
        catalog.unlink()
    assert pair.run("www4", "sync", "--rebuild").returncode == 0


def test_in_place_never_enters_another_file_system(pair: PlayedPair) -> None:
    pair.backs_up()
    with disk(pair.folder / "other") as other:
        (other / "kept").write_text("kept")
        (pair.volume / "mounted").mkdir()
        tool("mount", "--bind", other, pair.volume / "mounted")
        try:
            restore(pair, "--in-place")
            assert (pair.volume / "mounted/kept").read_text() == "kept"
            assert str(pair.volume / "mounted") in mount_points(pair.volume)
        finally:
            tool("umount", pair.volume / "mounted")


def in_the_way_of_a_link(pair: PlayedPair) -> Path:
    """A folder, where the newest snapshot has a symlink."""
    (pair.volume / "shop").symlink_to("www")
    pair.backs_up()
    (pair.volume / "shop").unlink()
    (pair.volume / "shop").mkdir()
    write(pair.volume / "shop/intruder")
    return pair.volume / "shop"


def test_a_folder_in_the_way_keeps_what_the_backup_leaves_out(pair: PlayedPair) -> None:
    pair.resource = 'exclude = ["cache/"]'
    folder = in_the_way_of_a_link(pair)
    write(folder / "cache/warm")
    assert "shop: is a folder, not a symlink" in restore(pair, "--in-place", status=1)
    assert [path.name for path in folder.iterdir()] == ["cache"]
    assert (folder / "cache/warm").exists()
    shutil.rmtree(folder)
    restore(pair, "--resume")
    assert os.readlink(folder) == "www"


def test_another_file_system_in_the_way_is_left_alone(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair, disk(tmp_path / "other") as other:
        write(other / "kept")
        folder = in_the_way_of_a_link(pair)
        tool("mount", "--bind", other, folder)
        try:
            assert "shop: is a folder, not a symlink" in restore(pair, "--in-place", status=1)
            assert (folder / "kept").exists()
        finally:
            tool("umount", folder)


def test_what_would_go_to_another_file_system_is_not_brought(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair, disk(tmp_path / "other") as other:
        write(pair.volume / "moved/orders")
        pair.backs_up()
        shutil.rmtree(pair.volume / "moved")
        (pair.volume / "moved").mkdir()
        (other / "orders").write_text("of today")
        tool("mount", "--bind", other, pair.volume / "moved")
        try:
            for path in ([], ["--path", "moved"], ["--path", "moved/orders"]):
                assert "is mounted at 'moved'" in restore(pair, "--in-place", *path, status=2)
            assert (other / "orders").read_text() == "of today"
            restore(pair, "--in-place", "--path", "file-1")
        finally:
            tool("umount", pair.volume / "moved")
        restore(pair, "--in-place")
        assert (pair.volume / "moved/orders").exists()


def test_where_there_is_no_room_for_both_what_goes_anyway_goes_first(tmp_path: Path) -> None:
    with on_a_device(tmp_path) as pair:
        pair.backs_up()
        wanted = {file.name: file.read_bytes() for file in pair.volume.glob("file-*")}
        for name in wanted:
            (pair.volume / name).unlink()
        tool("fallocate", "--length=130M", pair.volume / "grown")
        said = restore(pair, "--in-place", "--no-safety")
        assert "1 entry deleted" in said
        assert {file.name: file.read_bytes() for file in pair.volume.glob("file-*")} == wanted
        for name in wanted:
            (pair.volume / name).unlink()
        pair.resource += '\nexclude = ["grown"]'
        tool("fallocate", "--length=130M", pair.volume / "grown")
        assert "no space is left where the restore goes" in restore(pair, "--in-place", "--no-safety", status=1)
        assert (pair.volume / "grown").exists()
        (pair.volume / "grown").unlink()
        restore(pair, "--resume")
        assert {file.name: file.read_bytes() for file in pair.volume.glob("file-*")} == wanted


def test_no_more_is_deleted_than_was_confirmed(pair: PlayedPair) -> None:
    pair.backs_up()
    write(pair.volume / "intruder")
    command = shlex.join(pair.command("www4", "restore", "--in-place"))
    status, said = on_a_terminal(command, "[y/N]", b"y\n", lambda: write(pair.volume / "later"))
    assert status == 1
    assert "run it again" in said
    assert (pair.volume / "intruder").exists()
    assert on_a_terminal(command, "[y/N]", b"y\n")[0] == 0
    assert not (pair.volume / "later").exists()


def test_what_will_be_deleted_stands_below_that_word(pair: PlayedPair) -> None:
    pair.backs_up()
    write(pair.volume / "intruder")
    lines = [line.split() for line in restore(pair, "--in-place", "--dry-run").splitlines()]
    [at] = [number for number, words in enumerate(lines) if words[:1] == ["deletes"]]
    assert lines[at + 1] == ["intruder"]


def test_a_volume_that_is_as_it_was_is_said_to_be(pair: PlayedPair) -> None:
    pair.backs_up()
    said = restore(pair, "--in-place")
    assert "deletes   nothing" in said
    assert "already had the content of the snapshot; " in said
    (pair.volume / "www/site").chmod(0o701)
    assert "already had the content of the snapshot, but" in restore(pair, "--in-place")


def test_a_secondary_is_not_restored_in_place(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.roles("www5")
    said = restore(pair, "--in-place", status=4)
    assert "Secondary" in said
    pair.roles(None)
    restore(pair, "--in-place", "--dry-run", status=4)


def test_another_run_at_work_keeps_it_from_the_volume(pair: PlayedPair) -> None:
    pair.backs_up()
    lock = pair.folder / "state-www4/lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; cat"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        restore(pair, "--in-place", status=5)
        restore(pair, "--to", pair.folder / "back")
        holder.communicate()


def test_one_path_in_place_leaves_its_siblings_as_they_are(pair: PlayedPair) -> None:
    way = with_a_way(pair.volume)
    wanted = the_way(pair.volume)
    pair.backs_up()
    shutil.rmtree(pair.volume / "way")
    restore(pair, "--in-place", "--path", way)
    assert the_way(pair.volume) == wanted
    (pair.volume / "www/site/index.php").write_text("broken")
    (pair.volume / "www/site/new").write_text("new")
    (pair.volume / "www/newer").write_text("newer")
    (pair.volume / "mail/1").write_text("changed")
    restore(pair, "--in-place", "--path", "www/site/")
    assert (pair.volume / "www/site/index.php").read_text() == "<?php phpinfo();"
    assert not (pair.volume / "www/site/new").exists()
    assert (pair.volume / "www/newer").read_text() == "newer"
    assert (pair.volume / "mail/1").read_text() == "changed"


def test_a_folder_that_has_become_a_symlink_does_not_lead_the_restore_away(pair: PlayedPair) -> None:
    pair.backs_up()
    elsewhere = pair.folder / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(pair.volume / "www")
    (pair.volume / "www").symlink_to(elsewhere)
    assert "www/site" in restore(pair, "--in-place", "--path", "www/site", status=2)
    assert os.listdir(elsewhere) == []
    restore(pair, "--in-place")
    assert os.listdir(elsewhere) == []
    assert not (pair.volume / "www").is_symlink()


def test_what_could_not_be_read_for_the_backup_is_not_deleted_in_place(pair: PlayedPair) -> None:
    pair.backs_up()
    tell(pair, problem_count=1, problems=[{"path": "unread", "problem": "Input/output error"}])
    (pair.volume / "unread").mkdir()
    (pair.volume / "unread/precious").write_text("precious")
    (pair.volume / "intruder").write_text("x")
    restore(pair, "--in-place")
    assert (pair.volume / "unread/precious").exists()
    assert not (pair.volume / "intruder").exists()
    tell(pair, problem_count=2)
    (pair.volume / "intruder").write_text("x")
    assert "nothing is deleted" in restore(pair, "--in-place")
    assert (pair.volume / "intruder").exists()


def test_a_file_that_was_not_read_stays_in_place_whatever_its_name(tmp_path: Path) -> None:
    """Names with a backslash, a tab or a newline are escaped in the walk's list."""
    pair, name = PlayedPair(tmp_path), "odd\\n\t\nname"
    tool("mount", "-t", "tmpfs", "tmpfs", pair.volume)
    try:
        (pair.volume / "kept").write_text("kept")
        with (pair.volume / name).open("wb") as file:
            file.truncate(65 << 40)
        [target] = pair.json("www4", "run", status=3)["runs"][0]["targets"]
        os.truncate(pair.volume / name, 4)  # it can be read by now
        (pair.volume / "intruder").write_text("x")
        restore(pair, "--in-place", "--no-safety")
        left = [set(os.listdir(pair.volume))]
        # As an older version named it:
        tell(pair, problem_count=1, problems=[{"path": "odd\\\\n\\t\\nname", "problem": "Input/output error"}])
        restore(pair, "--in-place", "--no-safety")
        left.append(set(os.listdir(pair.volume)))
    finally:
        tool("umount", pair.volume)
    assert [(name in names, "intruder" in names) for names in left] == [(True, False)] * 2
    assert [one["path"] for one in target["problems"]] == [name]


def test_an_unmount_of_the_volume_ends_a_restore_in_place(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    image = disk_image(tmp_path / "drbd0.img", size="400M")
    tool("mount", "-o", "loop", image, pair.volume)
    try:
        for number in range(8):
            (pair.volume / f"file-{number}").write_bytes(os.urandom(32 << 20))
        pair.backs_up()
        for number in range(8):
            (pair.volume / f"file-{number}").write_bytes(b"")
        ended = preloaded.Popen(
            pair.command("www4", "restore", "--yes", "--in-place"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_for(lambda: any((pair.volume / f"file-{n}").stat().st_size for n in range(8)), "the restore to write", 300)
        tool("umount", "--lazy", pair.volume)
        assert ended.wait(30) == 7
        assert ended.stderr is not None
        assert b"unmounted" in ended.stderr.read()
    finally:
        for _ in mount_points(pair.volume):
            tool("umount", "--lazy", pair.volume)
    assert nothing_is_left(tmp_path)
