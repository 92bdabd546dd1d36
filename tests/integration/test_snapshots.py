"""What a user keeps is kept, in the first snapshot and in every later one, and a published copy never changes."""

from __future__ import annotations

import gzip
import hashlib
import json
import mmap
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from drbdbackup.catalog.signatures import own_key
from drbdbackup.pipeline.snapshot.link_sources import signed
from tests import preloaded
from tests.played_media import wait_for, weak_share
from tests.played_pair import PlayedPair, differences, times
from tests.settled import settled_volume, wait_until_settled

Change = Callable[[Path], None]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = PlayedPair(tmp_path)
    settled_volume(played.volume, furnish)
    return played


def furnish(volume: Path) -> None:
    """A bit of everything that a file system can hold."""
    (volume / "www/site").mkdir(parents=True)
    (volume / "www/site/index.php").write_text("<?php phpinfo();")
    (volume / "www/site/same").write_text("aaaa")
    (volume / "mail").mkdir()
    (volume / "mail/1").write_text("dear sir")
    os.link(volume / "mail/1", volume / "mail/1-again")
    os.link(volume / "mail/1", volume / "www/mail-1")
    (volume / "old").symlink_to("www/site")
    (volume / "dangling").symlink_to("/nowhere/at all")
    os.mkfifo(volume / "queue")
    os.mknod(volume / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(volume / "sock"))
    with (volume / "sparse").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"in the middle")
    subprocess.run(["setfacl", "-m", "u:33:rw,m:rw", str(volume / "www/site/index.php")], check=True)
    subprocess.run(["setfacl", "-d", "-m", "g:50:rx", str(volume / "mail")], check=True)
    os.setxattr(volume / "www/site", "user.origin", b"\0binary\xff")
    os.chown(volume / "mail/1", 1234, 4321)
    os.chmod(volume / "www/site/same", 0o4750)
    (volume / "locked").mkdir(mode=0o500)
    os.utime(volume / "www/site/same", ns=(1, 1_000_000_001))
    os.utime(volume / "old", ns=(7, 981_173_106_123_456_789), follow_symlinks=False)
    os.utime(volume / "mail", ns=(5, 1_400_000_000_987_654_321))


HOSTILE = [b"#hash", b";semicolon", b"-rf", b"--delete", b"new\nline", b"tab\there", b"back\\slash", b"\\#012",
           b"bad\xff\xfeutf8", b" lead", b"trail ", b"*", b"$(touch x)", b"n" * 255, b"|pipe|x", b"\r", b"%n",
           b"\xc3\xa9"]  # fmt: skip


def test_a_first_snapshot_equals_the_source(pair: PlayedPair) -> None:
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def deepest(top: Path, levels: int, *, make: bool = False) -> int:
    """The folder so many levels below, open."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        if make:
            os.mkdir("d", dir_fd=here)
        above, here = here, os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(above)
    return here


def test_what_is_too_deep_for_rsync_is_copied_or_named_once(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    bottom = deepest(pair.volume, 1_200, make=True)
    os.symlink("nowhere", "link", dir_fd=bottom)
    os.chown("link", 7, 8, dir_fd=bottom, follow_symlinks=False)
    os.utime("link", ns=(1, 123_456_789_012_345_678), dir_fd=bottom, follow_symlinks=False)
    pair.backs_up()
    copied = deepest(pair.newest("nas"), 1_200)
    seen = os.stat("link", dir_fd=copied, follow_symlinks=False)
    assert (seen.st_uid, seen.st_gid, seen.st_mtime_ns) == (7, 8, 123_456_789_012_345_678)
    assert os.readlink("link", dir_fd=copied) == "nowhere"
    pair.json("www4", "verify")
    os.mkfifo(f"/proc/self/fd/{bottom}/fifo")
    [problem] = pair.json("www4", "run", status=3)["runs"][0]["targets"][0]["problems"]
    assert problem["path"] == "d/" * 1_200 + "fifo"
    for folder in (bottom, copied):
        os.close(folder)
    subprocess.run(["rm", "-r", pair.volume, pair.folder / "nas"], check=True)  # pytest itself does not get so deep


def test_a_second_snapshot_of_an_unchanged_source_shares_every_file(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    first, second = [Path(copy["path"]) for copy in reversed(pair.copies())]
    assert differences(pair.volume, second) == []
    assert (first / "www/site/same").stat().st_ino == (second / "www/site/same").stat().st_ino


def test_where_only_the_inodes_are_others_nothing_is_copied_twice(pair: PlayedPair) -> None:
    """As after bare metal: the volume was restored, and each file on it has another inode and change time."""
    for name in ("altered", "with-attribute"):
        (pair.volume / name).write_text("aaaa")
    wait_until_settled(pair.volume)
    pair.backs_up()
    old = pair.newest("nas")
    subprocess.run(["cp", "-a", str(pair.volume), str(pair.folder / "again")], check=True)
    shutil.rmtree(pair.volume)
    (pair.folder / "again").rename(pair.volume)
    was = (pair.volume / "altered").stat()
    (pair.volume / "altered").write_text("bbbb")
    os.utime(pair.volume / "altered", ns=(was.st_atime_ns, was.st_mtime_ns))
    os.setxattr(pair.volume / "with-attribute", "user.new", b"1")
    [foreseen] = pair.json("www4", "run", "--dry-run")["runs"][0]["targets"]
    assert foreseen["counts"]["copied_bytes"] < 100, "room for all 8 MiB is not asked for"
    [target] = pair.json("www4", "run")["runs"][0]["targets"]
    new = pair.newest("nas")
    assert differences(pair.volume, new) == []
    shared = {name: (new / name).stat().st_ino == (old / name).stat().st_ino for name in
              ("www/site/index.php", "www/site/same", "sparse", "altered", "with-attribute")}  # fmt: skip
    assert [name for name, is_shared in shared.items() if not is_shared] == ["altered", "with-attribute"]
    assert (target["counts"]["copied_bytes"], pair.run("www4", "verify").returncode) == (4 + 4 + len("dear sir"), 0)


def test_hard_links_sparse_files_and_devices_stay_what_they_are(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    tree = pair.newest("nas")
    assert (tree / "mail/1").stat().st_ino == (tree / "www/mail-1").stat().st_ino
    assert (tree / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (tree / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISSOCK((tree / "sock").lstat().st_mode)


def content_with_size_and_time_put_back(volume: Path) -> None:
    path = volume / "www/site/same"
    seen = path.stat()
    path.write_text("bbbb")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def only_the_mode(volume: Path) -> None:
    os.chmod(volume / "www/site/index.php", 0o600)


def only_the_owner(volume: Path) -> None:
    os.chown(volume / "mail/1-again", 77, 88)


def only_an_acl(volume: Path) -> None:
    subprocess.run(["setfacl", "-m", "u:99:r", str(volume / "www/site/same")], check=True)


def only_an_attribute(volume: Path) -> None:
    os.setxattr(volume / "sparse", "user.note", b"x")


def an_attribute_of_a_folder(volume: Path) -> None:
    os.setxattr(volume / "mail", "user.note", b"x")
    os.chmod(volume / "www", 0o711)


def attributes_of_the_volume_itself(volume: Path) -> None:
    os.chmod(volume, 0o751)
    os.chown(volume, 3, 4)
    os.setxattr(volume, "user.whole", b"volume")


def a_folder_renamed_over_hard_links(volume: Path) -> None:
    (volume / "mail").rename(volume / "post")


def a_hard_link_more(volume: Path) -> None:
    os.link(volume / "www/site/index.php", volume / "index-again")


def a_hard_link_less(volume: Path) -> None:
    (volume / "mail/1-again").unlink()


def a_hard_link_broken_up(volume: Path) -> None:
    copy = (volume / "mail/1").read_bytes()
    (volume / "mail/1").unlink()
    (volume / "mail/1").write_bytes(copy)


def a_folder_by_a_file(volume: Path) -> None:
    shutil.rmtree(volume / "www/site")
    (volume / "www/site").write_text("was a folder")


def a_file_by_a_folder(volume: Path) -> None:
    (volume / "sparse").unlink()
    (volume / "sparse/deep/deeper").mkdir(parents=True)
    (volume / "sparse/deep/deeper/file").write_text("x")


def a_file_by_a_symlink(volume: Path) -> None:
    (volume / "www/site/same").unlink()
    (volume / "www/site/same").symlink_to("index.php")


def a_symlink_by_a_folder(volume: Path) -> None:
    (volume / "old").unlink()
    (volume / "old").mkdir()
    (volume / "old/new").write_text("x")


def a_folder_by_a_symlink(volume: Path) -> None:
    shutil.rmtree(volume / "mail")
    (volume / "mail").symlink_to("/etc")


def another_symlink_target(volume: Path) -> None:
    (volume / "dangling").unlink()
    (volume / "dangling").symlink_to("/elsewhere/at all")


def a_file_for_a_fifo(volume: Path) -> None:
    (volume / "queue").unlink()
    (volume / "queue").write_text("no fifo")


def much_removed(volume: Path) -> None:
    shutil.rmtree(volume / "www")
    (volume / "null").unlink()


def names_that_bite(volume: Path) -> None:
    for name in HOSTILE:
        with open(os.path.join(os.fsencode(volume), name), "wb") as file:
            file.write(b"content of " + name)
    os.mkdir(os.path.join(os.fsencode(volume), b"dir\xff\n"))
    with open(os.path.join(os.fsencode(volume), b"dir\xff\n", b"#in"), "wb") as file:
        file.write(b"x")


CHANGES: list[Change] = [
    content_with_size_and_time_put_back, only_the_mode, only_the_owner, only_an_acl, only_an_attribute,
    an_attribute_of_a_folder, attributes_of_the_volume_itself, a_folder_renamed_over_hard_links, a_hard_link_more,
    a_hard_link_less, a_hard_link_broken_up, a_folder_by_a_file, a_file_by_a_folder, a_file_by_a_symlink,
    a_symlink_by_a_folder, a_folder_by_a_symlink, another_symlink_target, a_file_for_a_fifo, much_removed,
    names_that_bite,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_next_snapshot_has_the_change_and_the_last_one_stays(pair: PlayedPair, change: Change) -> None:
    pair.backs_up()
    first = pair.newest("nas")
    kept = pair.folder / "kept"
    subprocess.run(["cp", "-a", str(first), str(kept)], check=True)
    change(pair.volume)
    pair.backs_up("www4", "--accept-shrink")
    assert differences(pair.volume, pair.newest("nas")) == []
    assert differences(kept, first) == []


def test_a_file_written_in_the_tick_of_the_walk_is_not_trusted_next_time(pair: PlayedPair) -> None:
    path = pair.volume / "busy"
    path.write_text("aaaa")
    pair.backs_up()
    seen = path.stat()
    hide_change(pair, path, b"bbbb", seen)
    pair.backs_up()
    assert (pair.newest("nas") / "busy").read_text() == "bbbb"


def hide_change(pair: PlayedPair, path: Path, content: bytes, seen: os.stat_result) -> None:
    """Change the content and make the manifest agree with the file as it is now: what a same-tick write looks like."""
    path.write_bytes(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    folder = pair.newest("nas").parent
    with gzip.open(folder / "manifest.gz") as lines:
        text = lines.read()
    assert str(seen.st_ctime_ns).encode() in text
    (folder / "manifest.gz").write_bytes(
        gzip.compress(text.replace(str(seen.st_ctime_ns).encode(), str(path.stat().st_ctime_ns).encode()))
    )
    sidecar = json.loads((folder / "snapshot.json").read_text())
    sidecar["manifest_sha256"] = hashlib.sha256((folder / "manifest.gz").read_bytes()).hexdigest()
    (folder / "snapshot.json").write_text(json.dumps(sidecar))


def test_a_store_through_a_mapping_is_seen(pair: PlayedPair) -> None:
    path = pair.volume / "mapped"
    path.write_bytes(b"a" * 8192)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 8192) as mapping:
        mapping[0:1] = b"b"
        pair.backs_up()
        mapping[1:2] = b"c"
        pair.backs_up()
        assert (pair.newest("nas") / "mapped").read_bytes()[:3] == b"bca"


def test_a_file_from_the_future_is_copied_each_time_and_right(pair: PlayedPair) -> None:
    path = pair.volume / "future"
    path.write_text("aaaa")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    pair.backs_up()
    path.write_text("cccc")
    os.utime(path, (4_000_000_000, 4_000_000_000))
    pair.backs_up()
    assert (pair.newest("nas") / "future").read_text() == "cccc"


@pytest.mark.parametrize("pattern", ["[a-5]*", "\\\\"])
def test_an_invalid_pattern_is_a_mistake_in_the_configuration(pair: PlayedPair, pattern: str) -> None:
    pair.resource = f'exclude = ["*.tmp", "{pattern}"]'
    assert pair.run("www4", "config", "validate").returncode == 2
    [run] = pair.json("www4", "run", status=1)["runs"]
    assert run["error"]["code"] == "config.invalid"


def test_what_is_excluded_is_not_in_it(pair: PlayedPair) -> None:
    pair.resource = 'exclude = ["www/*/same", "/mail/", "*.tmp"]'
    (pair.volume / "www/x.tmp").write_text("x")
    pair.backs_up()
    tree = pair.newest("nas")
    assert not (tree / "mail").exists()
    assert not (tree / "www/x.tmp").exists()
    assert not (tree / "www/site/same").exists()
    assert (tree / "www/site/index.php").exists()


def test_our_own_folder_and_lost_and_found_are_never_part_of_a_snapshot(pair: PlayedPair) -> None:
    (pair.volume / "lost+found").mkdir()
    (pair.volume / "lost+found/#123").write_text("x")
    pair.backs_up()
    pair.backs_up()
    assert (pair.volume / ".drbdbackup").is_dir()
    assert not (pair.newest("nas") / ".drbdbackup").exists()
    assert not (pair.newest("nas") / "lost+found").exists()


def test_a_crashed_runs_copy_is_linked_from_and_swept(pair: PlayedPair) -> None:
    pair.backs_up()
    published = pair.newest("nas").parent
    left = published.parent / f".partial-{published.name}"
    published.rename(left)
    sidecar = json.loads((left / "snapshot.json").read_text())
    (left / "abilities.json").write_text(json.dumps(sidecar["abilities"]))
    (left / "snapshot.json").unlink()

    lines = gzip.decompress((left / "manifest.gz").read_bytes()).splitlines(keepends=True)[1:]
    key = own_key(str(pair.folder / "state-www4"), "www4")
    (left / "manifest.partial").write_bytes(signed(b"".join(lines), key) + b"torn li")
    (left / "manifest.gz").unlink()
    inode = (left / "data/www/site/same").stat().st_ino
    pair.backs_up()
    copy = next(copy for copy in pair.copies() if Path(copy["path"]).exists())
    tree = Path(copy["path"])
    assert differences(pair.volume, tree) == []
    assert (tree / "www/site/same").stat().st_ino == inode
    assert not left.exists()


def test_times_are_exact_also_of_folders(pair: PlayedPair) -> None:
    pair.backs_up()
    pair.backs_up()
    assert times(pair.newest("nas")) == times(pair.volume)


def test_a_swapped_folder_pulls_in_nothing_from_outside(pair: PlayedPair) -> None:
    """While runs go on, a folder keeps changing places with a symlink to another folder."""
    outside = pair.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    inside, link = pair.volume / "swap", pair.volume / "swap-link"
    inside.mkdir()
    (inside / "file").write_text("public")
    link.symlink_to(outside)
    swap = "mv -T swap swap-x; mv -T swap-link swap; mv -T swap swap-link; mv -T swap-x swap; touch swap/file"
    swapping = subprocess.Popen(["sh", "-c", f"cd '{pair.volume}'; while :; do {swap}; done"])
    try:
        told = [pair.run("www4", "run", "--json").stdout for _ in range(6)]  # their notes say if nothing protects
    finally:
        swapping.kill()
        swapping.wait()
    for copy in pair.copies():
        tree = Path(copy["path"])
        found = {str(path.relative_to(tree)): path.read_text() for path in tree.rglob("file")}
        told_notes = [json.loads(text)["runs"][0]["targets"][0]["notes"] for text in told]
        assert "secret" not in found.values(), f"{found} {told_notes} {[(e.name, e.lstat()) for e in tree.iterdir()]}"


def test_unreadable_and_vanishing_entries_do_not_stop_the_rest(pair: PlayedPair) -> None:
    for number in range(20):  # so that the churn is not taken for a volume that has been emptied
        (pair.volume / f"file-{number}").write_text("x")
    churn = "for i in 1 2 3 4 5 6 7 8; do echo $i >> churn-$i; done; rm -f churn-*"
    churning = subprocess.Popen(["sh", "-c", f"cd '{pair.volume}'; while :; do {churn}; done"])
    try:
        for _ in range(3):
            assert pair.run("www4", "run").returncode == 0
    finally:
        churning.kill()
        churning.wait()
    assert (pair.newest("nas") / "www/site/index.php").read_text().startswith("<?php")


NOTING = """#!/bin/sh
case "$*" in *--files-from*) ;; *) exec {rsync} "$@" ;; esac
{rsync} "$@"
touch {folder}/copied
until [ -e {folder}/gone ]; do sleep 0.02; done
echo 'rsync: [generator] chgrp "/any" failed: Operation not permitted (1)' >&2
exit 23
"""


def test_what_is_gone_once_it_is_copied_is_in_the_manifest_as_in_the_tree(tmp_path: Path) -> None:
    """Also where rsync noted something, so that each copy is held against its original, and that was removed."""
    pair = PlayedPair(tmp_path, path=f"{tmp_path}/bin:{os.environ['PATH']}")
    for folder in ("becomes-a-file", "goes"):
        (pair.volume / folder).mkdir()
        (pair.volume / folder / "link").symlink_to("elsewhere")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rsync").write_text(NOTING.format(rsync=shutil.which("rsync"), folder=tmp_path))
    (tmp_path / "bin/rsync").chmod(0o755)
    run = preloaded.Popen(
        pair.command("www4", "run"), env={**os.environ, "PATH": pair.path}, stderr=subprocess.PIPE, text=True
    )
    wait_for((tmp_path / "copied").exists, "rsync to end")
    for folder in ("becomes-a-file", "goes"):
        shutil.rmtree(pair.volume / folder)
    (pair.volume / "becomes-a-file").write_text("x")
    (tmp_path / "gone").touch()
    assert (run.communicate(timeout=60)[1], run.returncode) == ("", 0)
    assert os.readlink(pair.newest("nas") / "becomes-a-file/link") == "elsewhere"
    verified = pair.run("www4", "verify")
    assert verified.returncode == 0, verified.stderr


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_copied(tmp_path: Path) -> None:
    """The volume is served by somebody who may not read it."""
    pair = PlayedPair(tmp_path)
    behind = tmp_path / "behind"
    behind.mkdir()
    for name, mode in (("closed", 0o600), ("legible", 0o644)):
        (behind / name).write_text(name)
        (behind / name).chmod(mode)
    with weak_share(pair.volume, behind, "squashed"):
        ended = pair.run("www4", "run")
        assert ended.returncode == 3
        assert "closed" in ended.stderr
        assert "legible" not in ended.stderr
        assert (pair.newest("nas") / "legible").read_text() == "legible"
        assert not (pair.newest("nas") / "closed").exists()
    assert "lacks      something of" in pair.run("www4", "latest").stdout  # whatever it is that the entry lacks


def test_a_growing_file_is_copied_again_next_time(pair: PlayedPair) -> None:
    growing = subprocess.Popen(["sh", "-c", f"while :; do echo line >> '{pair.volume}/log'; done"])
    try:
        pair.backs_up()
    finally:
        growing.kill()
        growing.wait()
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_the_clock_stepped_back_hides_nothing(pair: PlayedPair) -> None:
    """The manifest's walk began before (by the clock) the files were made: none of them is settled."""
    pair.backs_up()
    (pair.volume / "www/site/index.php").write_text("new")
    os.utime(pair.volume / "www/site/index.php", (time.time() - 7200,) * 2)
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []


def test_holes_of_a_file_with_several_names_are_not_read_either(tmp_path: Path) -> None:
    """rsync reads them at a tenth of a gigabyte a second: it is not asked."""
    pair = PlayedPair(tmp_path)
    names = [pair.volume / name for name in ("a/first", "b/second", "c/third")]
    for name in names:
        name.parent.mkdir()
    with names[0].open("wb") as file:
        file.truncate(8 << 30)
        file.write(b"content")
    for name in names[1:]:
        os.link(names[0], name)
    wait_until_settled(pair.volume)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rsync").write_text("#!/bin/sh\nexit 99\n")
    (programs / "rsync").chmod(0o755)
    pair.path = f"{programs}:{os.environ['PATH']}"
    pair.backs_up()
    seen = [(pair.newest("nas") / name.relative_to(pair.volume)).stat() for name in names]
    assert len({one.st_ino for one in seen}) == 1
    assert (seen[0].st_nlink, seen[0].st_size) == (3, 8 << 30)
    assert seen[0].st_blocks * 512 <= 1 << 20
    assert times(pair.newest("nas")) == times(pair.volume)
    assert pair.run("www4", "verify").returncode == 0
    pair.backs_up()
    assert (pair.newest("nas") / "c/third").stat().st_ino == seen[0].st_ino
