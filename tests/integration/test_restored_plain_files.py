"""What is plain is restored without rsync where nothing was before: as it was, and nothing odd comes with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.played_media import tool
from tests.played_pair import PlayedPair, differences
from tests.played_restore import furnished, restore, rot

NS = 1_234_567_890_123_456_789


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    played = furnished(tmp_path)
    plain = played.volume / "plain/deeper"
    plain.mkdir(parents=True)
    for number, name in enumerate(("empty", "acl", "attribute", "program", "long", "zeros", "last")):
        (plain / name).write_bytes(name.encode() * number)
        os.chown(plain / name, 1000 + number, 2000 + number)
        os.chmod(plain / name, 0o640 + number)
    (plain / "zeros").write_bytes(bytes(1 << 20) + b"end")
    tool("setfacl", "-m", "u:1234:rw", plain / "acl")
    os.setxattr(plain / "attribute", "user.what", b"\0value")
    os.setxattr(plain / "long", "user.long", os.urandom(2000))
    os.chmod(plain / "program", 0o4755)
    tidy = played.volume / "tidy/empty/deeper"
    tidy.mkdir(parents=True)
    (tidy.parents[1] / "link").symlink_to("/nowhere\n")
    (tidy.parents[1] / "last").write_text("last")
    tool("setfacl", "-d", "-m", "u:1234:rwx", tidy.parent)
    os.setxattr(tidy, "user.what", b"\0folder")
    os.chmod(tidy, 0o2771)
    for number, path in enumerate(played.volume.glob("tidy/*")):
        os.chown(path, 3000 + number, 4000 + number, follow_symlinks=False)
    for path in (*plain.iterdir(), plain, plain.parent, *played.volume.glob("tidy/**/*"), played.volume / "tidy"):
        os.utime(path, ns=(NS, NS), follow_symlinks=False)
    played.backs_up()
    return played


def with_rsync(pair: PlayedPair, script: str) -> Path:
    """A program that stands before rsync on PATH; where it may note something."""
    programs, notes = pair.folder / "bin", pair.folder / "notes"
    programs.mkdir()
    notes.mkdir()
    (programs / "rsync").write_text(f"#!/bin/bash\nnotes={notes} real={shutil.which('rsync')}\n{script}\n")
    (programs / "rsync").chmod(0o755)
    pair.path = f"{programs}:{os.environ['PATH']}"
    return notes


LISTS = 'for arg; do case $arg in --files-from=*) cat "${arg#*=}" >>$notes/listed;; esac; done; exec $real "$@"'


def test_they_come_back_as_they_were_and_rsync_brings_the_rest(pair: PlayedPair) -> None:
    notes = with_rsync(pair, LISTS)
    above = pair.folder / "above"
    above.mkdir()
    tool("setfacl", "-d", "-m", "u:1234:rwx", above)
    restore(pair, "--to", above / "back")
    assert differences(pair.volume, above / "back") == []
    assert (above / "back/plain/deeper/zeros").stat().st_blocks * 512 < 1 << 19
    listed = [path.removeprefix(b"./") for path in (notes / "listed").read_bytes().split(b"\0")]
    here = b"plain/deeper/"
    assert {here + name for name in (b"program", b"long")} <= set(listed)
    assert not {here + name for name in (b"empty", b"acl", b"attribute", b"zeros", b"last")} & set(listed)
    assert not [path for path in listed if path.startswith(b"tidy")]


def test_for_a_tree_of_these_nothing_is_started(pair: PlayedPair) -> None:
    notes = with_rsync(pair, "touch $notes/started; exit 1")
    to = pair.folder / "back"
    restore(pair, "--to", to, "--path", "plain/deeper/acl")
    assert sorted(str(path.relative_to(to)) for path in to.rglob("*")) == ["plain", "plain/deeper", "plain/deeper/acl"]
    restore(pair, "--to", pair.folder / "tree", "--path", "tidy")
    assert differences(pair.volume / "tidy", pair.folder / "tree/tidy") == []
    assert os.listdir(notes) == []
    restore(pair, "--to", pair.folder / "program", "--path", "plain/deeper/program", status=1)
    assert os.listdir(notes) == ["started"]
    for one in ("plain", "plain/deeper", "plain/deeper/acl"):
        was, now = (pair.volume / one).stat(), (to / one).stat()
        assert (was.st_mode, was.st_uid, was.st_gid, was.st_mtime_ns) == (
            now.st_mode, now.st_uid, now.st_gid, now.st_mtime_ns,
        )  # fmt: skip
    acl = "system.posix_acl_access"
    assert os.getxattr(to / "plain/deeper/acl", acl) == os.getxattr(pair.volume / "plain/deeper/acl", acl)


def test_what_became_of_them_on_the_medium_is_named_and_the_others_are_there(pair: PlayedPair) -> None:
    copy, to = pair.newest("nas") / "plain/deeper", pair.folder / "back"
    rot(copy / "last")
    (copy / "empty").write_text("grown")
    os.setxattr(copy / "zeros", "user.planted", b"x")
    shutil.copy2(copy / "acl", copy / "acl-new")
    (copy / "acl").unlink()
    (copy / "acl").symlink_to("/etc/passwd")
    (copy / "acl-new").unlink()
    tidy = copy.parents[1] / "tidy"
    (tidy / "link").unlink()
    (tidy / "link").symlink_to("/etc/passwd")
    (tidy / "empty/deeper").rmdir()
    (tidy / "empty/deeper").symlink_to("/etc")
    tool("setfacl", "-m", "u:666:rwx", tidy)
    said = restore(pair, "--to", to, status=1)
    for what in ("last", "empty", "zeros", "acl"):
        assert f"plain/deeper/{what}" in said, said
    for what in ("tidy/link", "tidy/empty/deeper", "tidy: has attributes"):
        assert what in said, said
    assert "plain/deeper/attribute" not in said
    found = [line.partition(" -> ")[0] for line in differences(pair.volume, to) if line[:2] != ".d"]
    changed = {line.split()[-1].rstrip("/") for line in found}
    assert changed == {
        "plain/deeper/last", "plain/deeper/empty", "plain/deeper/acl", "tidy/link", "tidy/empty/deeper",
    }  # fmt: skip
