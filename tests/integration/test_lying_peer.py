"""A compromised peer says what it likes through our own rsync: what that prints proves nothing and stops nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drbdbackup import manifest
from tests import played_sender
from tests.played_media import disk_image, mounted, tool
from tests.played_pair import PlayedPair
from tests.played_sshd import sshd

GOOD = {"index.php": b"<?php GOODgoodGOOD", "sub/b.php": b"<?php GOOD2"}
# It is honest until content is asked for.
PEER = """#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
*/data/*)
    set -- $SSH_ORIGINAL_COMMAND
    shift 4
    options=
    while [ "$1" != . ]; do options="$options $1"; shift; done
    cd {evil} && {does} ;;
*) exec {serve} ;;
esac
"""
SENDS = "exec {python} {program} {what} rsync --server --sender $options . ./"
CHEAP = 'options = ["-c", "aes128-gcm@openssh.com", '


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """No NAS: www4 has made a backup on its disk; `evil` is what it sends instead, of the same sizes and times."""
    played = PlayedPair(tmp_path, targets={"disk": ""})
    played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    (played.volume / "sub").mkdir()
    for name, content in GOOD.items():
        (played.volume / name).write_bytes(content)
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"disk-{node}.img")
    played.backs_up()
    tool("cp", "-a", played.volume, tmp_path / "evil")
    shutil.rmtree(tmp_path / "evil/.drbdbackup")
    return played


@contextmanager
def www4_does(pair: PlayedPair, does: str, *, stall: int = 60) -> Iterator[None]:
    """www4 has been broken into."""
    script, serve = pair.folder / "peer", " ".join(pair.command("www4", "serve"))
    script.write_text(PEER.format(evil=pair.folder / "evil", does=does, serve=serve))
    script.chmod(0o755)
    with sshd(pair.folder / "ssh", str(script)) as reached:
        table = reached.table("www4").replace("options = [", CHEAP)
        pair.extra = f"{table}[limits]\nstall = {stall}\n"
        yield


def sends(what: str) -> str:
    return SENDS.format(python=sys.executable, program=played_sender.__file__, what=what)


def recorded(folder: Path) -> bytes:
    """The lines that an rsync would print that brings what was backed up."""
    with manifest.reading(str(folder / "manifest.gz")) as lines:
        files = [one for line in lines if (one := manifest.recorded(line)).entry.kind == b"f"]
    return b"".join(b">f+++++++++|%s|%d|%s\n" % (one.hash.encode(), one.entry.size, one.entry.path) for one in files)


def test_what_a_peer_has_our_rsync_print_proves_no_content(pair: PlayedPair) -> None:
    for name, content in GOOD.items():
        file = pair.folder / "evil" / name
        seen = file.stat()
        file.write_bytes(content.replace(b"GOOD", b"EVIL"))
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with mounted(pair.folder / "disk-www4.img", pair.folder / "by-hand", "loop") as at:
        [made] = (at / "drbdbackup/raid").glob("2*")
        (pair.folder / "proofs").write_bytes(recorded(made))
    with www4_does(pair, sends(f"--prove {pair.folder}/proofs")):
        fetched = pair.json("www5", "replicate", status=1)
        assert "index.php: has another content" in str(fetched)
        ended = pair.run("www5", "restore", "--yes", "--from", "www4", "--to", str(pair.folder / "back"))
        assert ended.returncode == 1
        assert all(f"{name}: has another content" in ended.stderr for name in GOOD)
    with mounted(pair.folder / "disk-www5.img", pair.folder / "by-hand", "loop") as at:
        assert list((at / "drbdbackup/raid").glob("2*")) == [], "nothing of it is published"


@pytest.mark.parametrize(
    ("does", "stall", "why"),
    [
        ("while :; do echo please wait >&2; sleep 0.5; done", 4, "nothing moved"),
        (sends("--talk"), 60, "complains without end"),
        ("exec yes complaint >&2", 60, "complains without end"),
        (sends(f"--grow index.php {4 << 30}"), 60, "grow while they are read"),
    ],
    ids=["waits", "talks", "complains", "grows"],
)
def test_a_peer_that_comes_to_no_end_is_given_up(pair: PlayedPair, does: str, stall: int, why: str) -> None:
    """It complains, and sends nothing; ssh moves all the time. Or it sends far more than the copy has."""
    begun = time.monotonic()
    with www4_does(pair, does, stall=stall):
        ended = pair.run("www5", "restore", "--yes", "--from", "www4", "--to", str(pair.folder / "back"))
    assert (ended.returncode, why in ended.stderr) == (1, True), ended.stderr
    assert time.monotonic() - begun < 50
    scratch = pair.folder / "state-www5/scratch"
    assert list(scratch.iterdir()) == [], "what it had our rsync print is gone"


def test_that_no_room_is_left_is_not_believed_where_each_file_has_room(tmp_path: Path) -> None:
    """All files together have none: they are holes, or replace what is there. What the snapshot lacks stays until it is
    complete.
    """
    pair = PlayedPair(tmp_path, targets={"disk": ""})
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    disk_image(tmp_path / "disk-www4.img")
    disk_image(tmp_path / "volume.img", size="300M")
    (tmp_path / "evil").mkdir()
    with mounted(tmp_path / "volume.img", pair.volume, "loop"):
        for number in range(40):
            (pair.volume / f"holes-{number}").touch()
            os.truncate(pair.volume / f"holes-{number}", 16 << 20)
        pair.backs_up()
        (pair.volume / "mine").write_text("in no snapshot")
        (pair.volume / "holes-1").unlink()
        pair.roles("www5")
        for lie in ("No space left on device (28)", "Disk quota exceeded (122)"):
            with www4_does(pair, f"""echo 'rsync: [receiver] mkstemp "/x" failed: {lie}' >&2; exit 11"""):
                ended = pair.run("www5", "restore", "--yes", "--from", "www4", "--in-place", "--no-safety")
                assert (ended.returncode, "the peer sent a false error" in ended.stderr) == (1, True), ended.stderr
                assert (pair.volume / "mine").exists()
            shutil.rmtree(tmp_path / "ssh")
