"""A backup comes back as it was, says beforehand what it will do, and does no harm to what it was not asked about."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.played_media import disk, disk_image, nothing_is_left, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore
from tests.played_terminal import on_a_terminal


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    return furnished(tmp_path)


def test_the_newest_backup_comes_back_into_a_new_folder_as_it_was(pair: PlayedPair) -> None:
    pair.backs_up()
    restore(pair, "--to", pair.folder / "back/again")
    assert differences(pair.volume, pair.folder / "back/again") == []
    restored = pair.folder / "back/again"
    assert (restored / "mail/1").stat().st_ino == (restored / "www/mail-1").stat().st_ino
    assert (restored / "sparse").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("fstype", ["ext4", "btrfs"])
def test_it_comes_back_from_this_nodes_own_disk(pair: PlayedPair, fstype: str) -> None:
    pair.targets.clear()
    pair.add_disk("disk", str(disk_image(pair.folder / "disk.img", fstype)))
    pair.backs_up()
    (pair.volume / "www/site/new").write_text("later")
    pair.backs_up()
    assert "/data (once that disk is mounted)" in pair.run("www4", "latest").stdout
    restore(pair, "--to", pair.folder / "back")
    assert differences(pair.volume, pair.folder / "back") == []
    assert nothing_is_left(pair.folder)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    ended = pair.run("www4", "restore", "--dry-run", "--to", str(pair.folder / "back"))
    assert ended.returncode == 0
    assert pair.copies()[0]["snapshot"] in ended.stdout
    assert not (pair.folder / "back").exists()


def test_what_would_be_left_out_without_a_word_is_refused(pair: PlayedPair) -> None:
    pair.backs_up()
    said = restore(pair, "--path", "www", "--path", "mail", "--to", pair.folder / "back", status=2)
    assert "--path is given more than once" in said
    assert "not both" in restore(pair, "--in-place", "--to", pair.folder / "back", status=2)
    assert not (pair.folder / "back").exists()


def test_a_folder_that_holds_something_is_refused(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "back").mkdir()
    (pair.folder / "back/mine").write_text("mine")
    assert "is not empty" in restore(pair, "--to", pair.folder / "back", status=2)
    assert os.listdir(pair.folder / "back") == ["mine"]


def test_merge_restores_over_what_is_there_and_deletes_nothing(pair: PlayedPair) -> None:
    pair.backs_up()
    back = pair.folder / "back"
    (back / "www/site").mkdir(parents=True)
    (back / "mine").write_text("mine")
    (back / "www/site/same").write_text("bbbb")
    os.utime(back / "www/site/same", ns=(1, 1_000_000_001))
    restore(pair, "--merge", "--to", back)
    assert (back / "mine").read_text() == "mine"
    assert (back / "www/site/same").read_text() == "aaaa"
    (back / "mine").unlink()
    os.utime(back, ns=(0, pair.volume.stat().st_mtime_ns))
    assert differences(pair.volume, back) == []


def test_it_does_not_go_into_the_volume_a_target_or_our_own_state(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "way-round").symlink_to("volume")
    for where in ("volume/inside", "volume", "nas/inside", "state-www4/inside", ".", "way-round/inside"):
        assert "--to" in restore(pair, "--to", pair.folder / where, status=2)


def test_it_does_not_go_onto_a_target_by_another_way(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "share").symlink_to("nas")
    pair.targets["nas"] = pair.targets["nas"].replace('/nas"', '/share"')
    assert "the target nas" in restore(pair, "--to", pair.folder / "nas/evil", status=2)


def test_a_relative_folder_wants_a_folder_to_begin_at(pair: PlayedPair) -> None:
    gone = pair.folder / "gone"
    gone.mkdir()
    told = subprocess.run(
        ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *pair.command("www4", "restore", "--to", "back")],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    assert told.returncode == 2
    assert "is gone" in told.stderr


@pytest.mark.parametrize("answer", [b"n\n", b"\x04"])
def test_no_is_an_answer_and_the_question_is_seen(pair: PlayedPair, answer: bytes) -> None:
    pair.backs_up()
    command = shlex.join(pair.command("www4", "restore", "--to", str(pair.folder / "back")))
    status, said = on_a_terminal(f"{command} 2>{shlex.quote(str(pair.folder / 'errors'))}", "[y/N]", answer)
    assert "Go ahead? [y/N]" in said
    assert status == 1
    assert "nothing was restored" in (pair.folder / "errors").read_text()
    assert not (pair.folder / "back").exists()


def test_it_must_be_said_where_to(pair: PlayedPair) -> None:
    restore(pair, status=2)
    restore(pair, "--in-place", "--to", pair.folder / "back", status=2)


def test_one_path_comes_back_under_its_own_name_and_nothing_else_does(pair: PlayedPair) -> None:
    pair.backs_up()
    for number, path in enumerate(["mail/1", "www", "www/site", "old", "queue", "locked", "www/new\nline", "www/-rf"]):
        back = pair.folder / f"back-{number}"
        restore(pair, "--path", path, "--to", back)
        one, other = pair.volume / path, back / path
        assert (one.lstat().st_mode, one.lstat().st_mtime_ns) == (other.lstat().st_mode, other.lstat().st_mtime_ns)
        if one.is_dir() and not one.is_symlink():
            assert differences(one, other) == []
        assert other.parent == back or other.parent.stat().st_mode == one.parent.stat().st_mode
        assert os.listdir(back) == [path.split("/")[0]]


def test_a_path_that_leads_elsewhere_is_refused(pair: PlayedPair) -> None:
    pair.backs_up()
    for path in ("../etc", "/etc/passwd", "www/../../etc", ".", str(pair.volume / "www")):
        restore(pair, "--path", path, "--to", pair.folder / "back", status=2)


def test_a_path_that_is_not_in_the_snapshot_is_nothing_found(pair: PlayedPair) -> None:
    pair.backs_up()
    said = restore(pair, "--path", "www/site/nowhere", "--to", pair.folder / "back", status=6)
    assert "www/site" in said
    assert not (pair.folder / "back").exists()


def test_it_comes_back_as_it_was_then(pair: PlayedPair) -> None:
    pair.backs_up()
    old = pair.copies()[0]
    wait_for(lambda: pair.json("www4", "status")["resources"][0]["last_complete"], "the first backup to be known")
    (pair.volume / "mail/2").write_text("second")
    pair.backs_up()
    restore(pair, "--at", old["started_at"], "--to", pair.folder / "then")
    assert not (pair.folder / "then/mail/2").exists()
    restore(pair, "--snapshot", old["snapshot"], "--to", pair.folder / "named")
    assert not (pair.folder / "named/mail/2").exists()
    restore(pair, "--to", pair.folder / "now")
    assert (pair.folder / "now/mail/2").exists()
    restore(pair, "--at", "2 years ago", "--to", pair.folder / "never", status=6)
    restore(pair, "--from", "www5", "--to", pair.folder / "never", status=6)
    restore(pair, "--from", "nowhere", "--to", pair.folder / "never", status=2)


def test_no_space_is_told_beforehand(pair: PlayedPair) -> None:
    with (pair.volume / "large").open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    pair.backs_up()
    with disk(pair.folder / "small") as small:
        said = restore(pair, "--to", small / "back", status=1)
        assert "free" in said
        assert not (small / "back").exists()
        restore(pair, "--path", "www", "--to", small / "back")
        assert differences(pair.volume / "www", small / "back/www") == []


def test_ctrl_c_leaves_no_mount_and_no_process(pair: PlayedPair) -> None:
    pair.targets.clear()
    pair.add_disk("disk", str(disk_image(pair.folder / "disk.img", size="200M")))
    with (pair.volume / "large").open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
    pair.backs_up()
    restoring = subprocess.Popen(
        pair.command("www4", "restore", "--yes", "--to", str(pair.folder / "back")),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: (pair.folder / "back").exists() or restoring.poll() is not None, "the restore to begin")
    restoring.send_signal(signal.SIGINT)
    assert restoring.wait(30) in (130, 0)
    assert nothing_is_left(pair.folder)
    assert os.listdir(pair.folder / "state-www4/scratch") == []
