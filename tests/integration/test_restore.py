"""A backup comes back as it was, says beforehand what it will do, and does no harm to what it was not asked about."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.model.backup import iso
from tests import preloaded
from tests.played_media import disk, disk_image, nothing_is_left, tool, wait_for, weak_share
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, the_way, with_a_way
from tests.played_terminal import at_a_terminal, on_a_terminal


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

    most = (pair.newest("nas").parent / "manifest.gz").stat().st_size - 1  # of a file that we may write
    pair.under = ("setpriv", "--bounding-set", "-sys_resource", "prlimit", f"--fsize={most}:{most}")
    error = pair.json("www4", "restore", "--to", str(pair.folder / "no"), "--yes", status=1)["error"]
    assert (error["code"], "`ulimit -f`" in error["hint"]) == ("state.unwritable", True), "it says nothing of the copy"


def test_a_file_with_large_holes_costs_what_is_in_it(pair: PlayedPair) -> None:
    """8 GiB, of which 3 MiB are content: rsync needs half a minute for the zeros, and gets three seconds.

    A further name of it costs nothing more, and one like it lies deeper than rsync comes.
    """
    folder, size, at = pair.volume / "images", 8 << 30, (0, 2 << 30, (8 << 30) - (1 << 20))
    deep = "d/" * 550 + "deep.img"
    (folder / deep).parent.mkdir(parents=True)
    (pair.folder / "bin").mkdir()
    played = pair.folder / "bin/rsync"
    played.write_text(f'#!/bin/sh\nexec prlimit --cpu=3 {shutil.which("rsync")} "$@"\n')
    played.chmod(0o755)
    pair.path = f"{played.parent}:{os.environ['PATH']}"
    with (folder / "disk.img").open("wb") as file:
        file.truncate(size)
        for place in at:
            file.seek(place)
            file.write(os.urandom(1 << 20))
    os.link(folder / "disk.img", folder / "next.img")
    with (folder / deep).open("wb") as file:
        file.truncate(size)
    os.utime(folder / deep, ns=(5, 5))
    os.setxattr(folder / "disk.img", "user.what", b"image")
    os.chmod(folder / "disk.img", 0o640)
    for path, when in ((folder / "disk.img", 1_000_000_000_123_456_789), (folder, 1_100_000_000_000_000_001)):
        os.chown(path, 1234, 4321)
        os.utime(path, ns=(when, when))

    def shown(path: Path) -> list[object]:
        found: list[object] = []
        for one in (path, path / "disk.img"):
            seen = one.stat()
            found.append((seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, seen.st_size * one.is_file()))
        with (path / "disk.img").open("rb") as file:
            found += [file.seek(place) == place and file.read(2 << 20) for place in at]
        found += [(path / "next.img").samefile(path / "disk.img")] if (path / "next.img").exists() else []
        if (path / deep).exists():
            found.append(((path / deep).stat().st_size, (path / deep).stat().st_mtime_ns))
        return [*found, os.getxattr(path / "disk.img", "user.what"), seen.st_blocks * 512 <= 4 << 20]

    pair.backs_up()
    was = shown(folder)
    for number, wish in enumerate(([], ["--path", "images"], ["--path", "images/disk.img"])):
        restore(pair, *wish, "--to", pair.folder / f"back-{number}")
        back = pair.folder / f"back-{number}/images"
        if number < 2:
            assert shown(back) == was
        else:
            assert (os.listdir(back), (back / "disk.img").stat().st_size) == (["disk.img"], size)
    with (folder / "disk.img").open("r+b") as file:
        file.write(b"changed")
    (folder / "next.img").unlink()
    (folder / "next.img").write_bytes(b"another file")
    restore(pair, "--in-place", "--no-safety")
    assert shown(folder) == was
    assert sorted(os.listdir(folder)) == ["d", "disk.img", "next.img"]


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


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Its lock is somebody else's."""
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    yield
    os.close(held)


def test_a_folder_that_holds_something_is_refused(pair: PlayedPair) -> None:
    pair.backs_up()
    (pair.folder / "back").mkdir()
    (pair.folder / "back/mine").write_text("mine")
    assert "is not empty" in restore(pair, "--to", pair.folder / "back", status=2)
    assert os.listdir(pair.folder / "back") == ["mine"]

    (pair.folder / "back/mine").unlink()
    with holding(pair.folder / "back"):  # as another restore does, of another snapshot perhaps
        assert "another restore" in restore(pair, "--to", pair.folder / "back", status=2)
    assert os.listdir(pair.folder / "back") == []
    restore(pair, "--to", pair.folder / "back")


def test_a_folder_in_which_nothing_can_be_made_is_refused_and_no_copy_is_blamed(pair: PlayedPair) -> None:
    pair.backs_up()
    assert "File name too long" in restore(pair, "--to", pair.folder / ("x" * 300), status=2)
    back = pair.folder / "back"
    back.mkdir()
    for flag in "ia":
        tool("chattr", f"+{flag}", back)
        try:
            assert "chattr -i -a" in restore(pair, "--to", back, status=2)
        finally:
            tool("chattr", f"-{flag}", back)
    assert os.listdir(back) == []


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


def test_what_is_immutable_in_a_folder_to_merge_into_is_named_before(pair: PlayedPair) -> None:
    pair.backs_up()
    back = pair.folder / "back"
    restore(pair, "--path", "www/site", "--to", back)
    (back / "www/site/same").write_text("changed")
    tool("chattr", "+i", back / "www/site/same")
    try:
        for further in ("--dry-run", "--yes"):
            said = restore(pair, "--path", "www/site", "--merge", "--to", back, further, status=2)
            assert "www/site/same" in said
    finally:
        tool("chattr", "-i", back / "www/site/same")
    restore(pair, "--path", "www/site", "--merge", "--to", back)
    assert (back / "www/site/same").read_text() == (pair.volume / "www/site/same").read_text()


def test_what_is_immutable_and_as_it_was_needs_nothing(pair: PlayedPair) -> None:
    """A setuid program, too: others of its kind are made anew."""
    volume, back = pair.volume / "tool", pair.folder / "back"
    volume.write_text("of root's")
    volume.chmod(0o4755)
    os.chown(volume, 1000, 1000)
    volume.chmod(0o4755)
    pair.backs_up()
    restore(pair, "--path", "tool", "--to", back)
    for there, wish in ((back / "tool", ("--path", "tool", "--merge", "--to", back)), (volume, ("--in-place",))):
        (pair.volume / "www/site/same").write_text("changed")
        tool("chattr", "+i", there)
        try:
            restore(pair, *wish, "--no-safety")
            assert (there.stat().st_mode, there.read_text()) == (0o104755, "of root's")
            tool("chattr", "-i", there)
            os.setxattr(there, "user.since", b"1")
            tool("chattr", "+i", there)
            assert "tool" in restore(pair, *wish, "--no-safety", status=2)
        finally:
            tool("chattr", "-i", there)


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


def problems_of(pair: PlayedPair, *wish: object) -> dict[str, Any]:
    """A restore that misses something; its plan and what it names."""
    done = pair.json("www4", "restore", *map(str, wish), "--yes", status=1)
    return {**done, "named": {(one["path"], one["problem"].partition(":")[0]) for one in done["problems"]}}


def test_where_no_acl_can_be_held_each_entry_is_named_and_all_content_is_there(pair: PlayedPair) -> None:
    """A ramfs, which does not say either how large it is."""
    names = [f"file-{number:03}" for number in range(60)]  # more than an error would repeat of what rsync says
    (pair.volume / "acls").mkdir()
    for name in names:
        (pair.volume / "acls" / name).write_text(name)
    tool("setfacl", "--recursive", "--modify", "u:1234:rw", pair.volume / "acls")
    os.setxattr(pair.volume / "acls/file-000", "user.k", b"v")
    pair.backs_up()
    (pair.folder / "ram").mkdir()
    tool("mount", "-t", "ramfs", "ramfs", pair.folder / "ram")
    try:
        for number, top in enumerate(("acls", "acls/file-000")):
            done = problems_of(pair, "--path", top, "--to", pair.folder / f"ram/{number}")
            assert done["plan"]["free_bytes"] is None
            wanted = {(f"acls/{name}", "ACL") for name in names} | {("acls", "ACL")}
            if top != "acls":
                wanted = {("acls", "ACL"), ("acls/file-000", "ACL")}
            assert done["named"] == wanted | {("acls/file-000", "user.k")}
        assert [(pair.folder / "ram/0/acls" / name).read_text() for name in names] == names
    finally:
        tool("umount", pair.folder / "ram")


def test_where_a_file_has_but_one_name_each_name_has_the_content(pair: PlayedPair) -> None:
    """As on exFAT: no links, no owners, no modes."""
    pair.backs_up()
    with weak_share(pair.folder / "stick", pair.folder / "behind") as stick:
        done = problems_of(pair, "--path", "mail", "--to", stick.path / "back")
        problems_of(pair, "--path", "www", "--to", stick.path / "www")
        assert (stick.path / "back/mail/1").read_bytes() == (pair.volume / "mail/1").read_bytes()
        assert (stick.path / "www/www/mail-1").read_bytes() == (pair.volume / "mail/1").read_bytes()
        pair.run("www4", "restore", "--to", str(stick.path / "all"), "--yes")
        for name in ("mail/1", "www/mail-1"):
            assert (stick.path / "all" / name).read_bytes() == (pair.volume / "mail/1").read_bytes()
    assert ("mail/1", "owner") in done["named"]


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


def test_what_comes_from_a_target_is_not_shown_as_going_there(pair: PlayedPair) -> None:
    pair.backs_up()
    for command in (("restore", "--yes", "--to", str(pair.folder / "back")), ("verify",)):
        status, said = at_a_terminal(shlex.join(pair.command("www4", *command)), [])
        assert (status, "raid from nas" in said, "raid to nas" in said) == (0, True, False)


def test_it_must_be_said_where_to(pair: PlayedPair) -> None:
    restore(pair, status=2)
    restore(pair, "--in-place", "--to", pair.folder / "back", status=2)


def test_one_path_comes_back_under_its_own_name_and_nothing_else_does(pair: PlayedPair) -> None:
    way = with_a_way(pair.volume)
    for folder in (pair.volume / "way", (pair.volume / way).parent):
        os.setxattr(folder, "user.long", os.urandom(1500))  # of which the manifest has the digest only
    pair.backs_up()
    (pair.folder / "way-back").mkdir()
    tool("setfacl", "-d", "-m", "u:99:rwx", pair.folder / "way-back")
    restore(pair, "--path", way, "--to", pair.folder / "way-back")
    assert the_way(pair.folder / "way-back") == the_way(pair.volume)
    assert os.listxattr(pair.folder / "way-back" / way) == []
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
    for path in ("../etc", "/etc/passwd", "www/../../etc", ".", "/", str(pair.volume), str(pair.volume / "www")):
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
    wait_for(lambda: iso(datetime.now(UTC)) > old["started_at"], "the next second: a time names no part of one")
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
    restore(pair, "--snapshot", "2099", "--to", pair.folder / "never", status=6)
    for option in ("--at", "--from", "--snapshot", "--lineage", "--path"):
        restore(pair, option, "", "--to", pair.folder / "never", status=2)
    assert not (pair.folder / "never").exists()


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
    restoring = preloaded.Popen(
        pair.command("www4", "restore", "--yes", "--to", str(pair.folder / "back")),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: (pair.folder / "back/large").exists() or restoring.poll() is not None, "the restore to begin")
    restoring.send_signal(signal.SIGINT)
    said = restoring.communicate(timeout=30)[1]
    assert restoring.returncode in (130, 0)
    assert ("--merge" in said) == (restoring.returncode == 130)
    assert nothing_is_left(pair.folder)
    assert os.listdir(pair.folder / "state-www4/scratch") == []
