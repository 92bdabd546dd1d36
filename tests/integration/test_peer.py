"""A node's own disk is read by the other node over a real ssh, through a key that can do nothing else."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from fcntl import LOCK_EX, flock
from pathlib import Path

import msgspec
import pytest

from drbdbackup import manifest
from drbdbackup.catalog import store, view
from drbdbackup.catalog.bodies import copied
from drbdbackup.commands import serve
from drbdbackup.targets import layout, sidecar
from drbdbackup.tools import ssh
from tests import preloaded
from tests.integration.test_snapshots import HOSTILE, furnish
from tests.played_media import disk_image, mounted, nothing_is_left, tool, wait_for
from tests.played_pair import PlayedPair, differences
from tests.played_restore import restore, the_way, with_a_way
from tests.played_sshd import Reached, sshd


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """No NAS: each node has a disk of its own, and www4 has made a backup."""
    played = PlayedPair(tmp_path, targets={"disk": ""})
    played.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    for node in ("www4", "www5"):
        disk_image(tmp_path / f"disk-{node}.img")
    furnish(played.volume)
    with_a_way(played.volume, "user.k", "security.k")  # trusted ones are not sent
    for name in HOSTILE:
        (Path(os.fsdecode(os.fsencode(played.volume) + b"/www/" + name))).write_text("odd")
    played.backs_up()
    return played


@pytest.fixture
def www4(pair: PlayedPair) -> Iterator[Reached]:
    """www5's way to www4's forced command."""
    with sshd(pair.folder / "ssh", *preloaded.door(), "--config", str(pair.config("www4")), "serve") as reached:
        pair.extra = reached.table("www4")
        yield reached


def test_what_www4_made_comes_back_on_www5_from_www4s_disk(pair: PlayedPair, www4: Reached) -> None:
    said = restore(pair, "--from", "www4", "--to", pair.folder / "back", node="www5")
    assert f"www4:{pair.folder}/disk-www4.img" in said
    assert differences(pair.volume, pair.folder / "back") == []
    restore(pair, "--from", "www4", "--path", "sparse", "--to", pair.folder / "one", node="www5")
    for restored in (pair.folder / "back", pair.folder / "one"):
        assert (restored / "sparse").stat().st_blocks * 512 < 1 << 20, "holes stay holes"
    assert nothing_is_left(pair.folder)


def test_who_has_read_a_disk_over_ssh_is_not_called_a_liar_there(pair: PlayedPair, www4: Reached) -> None:
    restore(pair, "--from", "www4", "--to", pair.folder / "back", node="www5")
    pair.json("www5", "drill", "--to", str(pair.folder / "drill"))
    pair.add_share("nas")
    pair.backs_up()
    assert "nas" in pair.json("www5", "sync")["went"]["open"]
    with sqlite3.connect(pair.folder / "state-www5/catalog.db") as catalog:
        kinds = {kind for (kind,) in catalog.execute("SELECT kind FROM fact WHERE node = 'www5'")}
    assert {"measured", "drilled"} <= kinds
    pair.extra = ""
    assert pair.json("www4", "latest")["closed_roads"] == {}


def test_what_was_added_to_the_copy_at_the_peer_does_not_come_over(pair: PlayedPair, www4: Reached) -> None:
    with mounted(pair.folder / "disk-www4.img", pair.folder / "by-hand", "loop") as at:
        data = at / "drbdbackup/raid" / pair.copies()[0]["snapshot"] / "data"
        for name in ("shell.php", "www/shell.php", "www/more/shell.php"):
            (data / name).parent.mkdir(exist_ok=True)
            (data / name).write_text("evil")
        tool("touch", "--reference", pair.volume, data)
        tool("touch", "--reference", pair.volume / "www", data / "www")
    restore(pair, "--from", "www4", "--to", pair.folder / "back", node="www5")
    assert differences(pair.volume, pair.folder / "back") == []


def test_the_catalog_comes_from_the_peer_where_there_is_no_other_road(pair: PlayedPair, www4: Reached) -> None:
    tool("rm", "-r", pair.volume / ".drbdbackup")
    # `latest` waits for no road longer than two seconds, which on a busy machine is too little for ssh
    wait_for(lambda: pair.run("www5", "latest").returncode == 0, "the catalog to come")
    latest = pair.json("www5", "latest")
    assert latest["backup"]["location"] == f"www4:{pair.folder}/disk-www4.img"
    wait_for(lambda: pair.json("www5", "latest")["backup"]["reachable"] is True, "the peer to answer in time")


def test_the_nearest_is_this_nodes_own_disk(pair: PlayedPair, www4: Reached) -> None:
    pair.roles("www5")
    pair.backs_up("www5")
    said = restore(pair, "--to", pair.folder / "back", node="www5")
    assert f"www5:{pair.folder}/disk-www5.img" in said


def test_one_path_comes_over_whatever_its_name_is(pair: PlayedPair, www4: Reached) -> None:
    for number, path in enumerate([b"-rf", b"new\nline", b"bad\xff\xfeutf8", b"n" * 255, b"site"]):
        back = pair.folder / f"back-{number}"
        wanted = os.fsdecode(b"www/" + path)
        ended = preloaded.run(
            pair.command("www5", "restore", "--yes", "--path", wanted, "--to", str(back)), capture_output=True,
            timeout=120,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        one, other = (os.lstat(os.path.join(os.fsencode(root), b"www", path)) for root in (pair.volume, back))
        assert (one.st_mode, one.st_mtime_ns) == (other.st_mode, other.st_mtime_ns)
        assert os.listdir(back / "www") == [os.fsdecode(path)]
    restore(pair, "--path", "way/sh[o]p\\/f", "--to", pair.folder / "way-back", node="www5")
    assert the_way(pair.folder / "way-back") == the_way(pair.volume)


def test_in_place_from_the_peers_disk(pair: PlayedPair, www4: Reached) -> None:
    restore(pair, "--to", pair.folder / "wanted", node="www5")
    pair.roles("www5")
    (pair.volume / "mail/1").write_text("changed")
    (pair.volume / "intruder").write_text("x")
    restore(pair, "--in-place", node="www5")
    assert differences(pair.folder / "wanted", pair.volume) == []


# What rsync's sender takes as rules of its own goes before those of the receiver: it obeys none of them.
HOSTILE_SENDER = """#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
*/data/*)
    set -- $SSH_ORIGINAL_COMMAND
    shift 4
    options=
    while [ "$1" != . ]; do options="$options $1"; shift; done
    cd {evil} && exec rsync --server --sender $options '--include=*' . {sent} ;;
list) {serve} | sed s/takes_list/is_of_old/ ;;
*) exec {serve} ;;
esac
"""


LYING_SENDER = """#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
*/data/*) echo 'rsync: [receiver] mkstemp "/x" failed: {lie}' >&2; exit 11 ;;
*) exec {serve} ;;
esac
"""


def test_a_hostile_peer_sends_what_was_asked_for_or_is_found_out(pair: PlayedPair, tmp_path: Path) -> None:
    """One path: what it sends beside that is not written at all. A whole tree: what it adds to it is named."""
    evil, script = tmp_path / "evil", tmp_path / "hostile"
    tool("cp", "-a", pair.volume, evil)
    tool("rm", "-r", evil / ".drbdbackup")
    for name in ("shell.php", "www/site/.htaccess", "www/site/index.php"):
        (evil / name).write_text("evil")
    (evil / "www/site/more").mkdir()
    serve = " ".join(pair.command("www4", "serve"))
    script.touch(0o755)
    part, whole = tmp_path / "part", tmp_path / "whole"
    (part / "www/site").mkdir(parents=True)
    (part / "www/site/index.php").write_text("mine")
    with sshd(pair.folder / "ssh", str(script)) as reached:
        pair.extra = reached.table("www4")
        for sent in ("same .htaccess index.php more", "."):
            script.write_text(HOSTILE_SENDER.format(evil=evil / "www/site", sent=sent, serve=serve))
            asked = ("--from", "www4", "--path", "www/site/same")
            restore(pair, *asked, "--to", part, "--merge", node="www5", status=1)
            assert {"same", "index.php"} >= {path.name for path in (part / "www/site").iterdir()}, sent
            assert (part / "www/site/index.php").read_text() == "mine", sent
        script.write_text(HOSTILE_SENDER.format(evil=evil / "www", sent="site", serve=serve))
        (part / "www/site/own").write_text("mine")
        said = restore(pair, "--from", "www4", "--path", "www/site", "--to", part, "--merge", node="www5", status=1)
        assert {name for name in ("more", ".htaccess", "own") if f"{name}: is not in the snapshot's" in said} == {
            ".htaccess"
        }
        script.write_text(HOSTILE_SENDER.format(evil=evil, sent="./", serve=serve))
        said = restore(pair, "--from", "www4", "--to", whole, node="www5", status=1)
        pair.roles("www5")
        (pair.volume / "mine").write_text("in no snapshot")
        for lie in ("No space left on device (28)", "Read-only file system (30)"):
            script.write_text(LYING_SENDER.format(lie=lie, serve=serve))
            told = restore(pair, "--from", "www4", "--in-place", "--no-safety", node="www5", status=1)
            assert "the peer sent a false error" in told
            assert (pair.volume / "mine").exists(), "without room it would have gone first"
    for name in ("shell.php", "www/site/.htaccess", "www/site/more"):
        assert f"{name}: is not in the snapshot's manifest" in said


def test_it_lists_what_can_be_read_on_its_disk(pair: PlayedPair, www4: Reached) -> None:
    listed = json.loads(www4.ask("list").stdout)
    assert [copy["snapshot"] for copy in listed["copies"]] == [pair.copies()[0]["snapshot"]]
    assert listed["closed"] == {}
    (pair.folder / "disk-www4.img").rename(pair.folder / "pulled.img")
    listed = json.loads(www4.ask("list").stdout)
    assert listed["copies"] == []
    assert "disk" in listed["closed"]


REFUSED = [
    "", "id", "catalog;id", "sh -c id", "drbdbackup run", "list /etc", "scp -f /etc/passwd", "internal-sftp",
    "rsync --server --sender -re.iLsfxCIvu . /etc/passwd",
    "snapshots rsync --server --sender -re.iLsfxCIvu . /etc/passwd",
    "snapshots rsync --server -re.iLsfxCIvu . disk/raid/20261123T043000Z-www4/data/",
    "snapshots rsync --server --sender -re.iLsfxCIvu --log-file=/tmp/x . disk/raid/20261123T043000Z-www4/data/",
    "snapshots rsync --server --sender -re.iLsfxCIvu --rsh=id . disk/raid/20261123T043000Z-www4/data/",
    "catalog\nid", "list\tx", "$(id)", "`id`", "drbdbackup peer accept www5", "catalog" + " " * 100_000,
    "\x1b[31m\udcff",
]  # fmt: skip


def test_everything_else_is_refused(pair: PlayedPair, www4: Reached) -> None:
    for words in REFUSED:
        ended = www4.ask(*([words] if words else []))
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert b"refused" in ended.stderr


def test_sftp_and_forwarding_are_refused_too(pair: PlayedPair, www4: Reached) -> None:
    copied = subprocess.run(
        ["scp", "-o", "BatchMode=yes", *("-P" if word == "-p" else word for word in www4.options),
         "root@127.0.0.1:/etc/passwd", pair.folder / "stolen"], capture_output=True, timeout=60,
    )  # fmt: skip
    assert copied.returncode
    assert not (pair.folder / "stolen").exists()


def test_nothing_can_be_written_through_it(pair: PlayedPair, www4: Reached) -> None:
    snapshot = pair.copies()[0]["snapshot"]
    shell = " ".join(["ssh", "-o", "BatchMode=yes", *www4.options, "--", "root@127.0.0.1"])
    pushed = subprocess.run(
        ["rsync", "-r", "-e", shell, f"{pair.volume}/mail/", f"snapshots:disk/raid/{snapshot}/data/"],
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert pushed.returncode
    assert b"refused" in pushed.stderr


def test_a_symlink_in_a_copy_leads_nowhere(pair: PlayedPair, www4: Reached) -> None:
    snapshot = pair.copies()[0]["snapshot"]
    with mounted(pair.folder / "disk-www4.img", pair.folder / "by-hand", "loop") as at:
        (at / "drbdbackup/raid" / snapshot / "data/evil").symlink_to("/etc")
    sender = "snapshots rsync --server --sender -lre.iLsfxCIvu ."
    ended = www4.ask(f"{sender} disk/raid/{snapshot}/data/{b'evil/passwd'.hex()}")
    assert ended.returncode
    assert b"root:" not in ended.stdout


def test_a_run_at_work_keeps_no_peer_from_reading(pair: PlayedPair, www4: Reached) -> None:
    lock = pair.folder / "state-www4/lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; cat"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        restore(pair, "--to", pair.folder / "back", node="www5")
        holder.communicate()


def test_a_peer_that_reads_keeps_no_run_from_writing(pair: PlayedPair, www4: Reached) -> None:
    with (pair.volume / "large").open("wb") as file:
        file.write(os.urandom(8 << 20))
    pair.backs_up()
    path = f"disk/raid/{pair.copies()[0]['snapshot']}/data/"
    words = f"snapshots rsync --server --sender -lHogDtprSe.iLsfxCIvu --numeric-ids . {path}"
    asking = ["ssh", "-T", "-o", "BatchMode=yes", *www4.options, "--", "root@127.0.0.1", words]
    with subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reading:
        try:
            assert reading.stdout is not None
            assert len(reading.stdout.read(4)) == 4  # rsync's greeting: the disk is open
            pair.backs_up()
        finally:
            reading.kill()
    wait_for(lambda: nothing_is_left(pair.folder), "the disk to be let go")


def test_a_peer_that_sends_as_much_as_it_may_is_busy_and_its_copy_is_not_damaged(
    pair: PlayedPair, www4: Reached
) -> None:
    with ExitStack() as stack:
        for number in range(serve.SLOTS):
            path = pair.folder / "state-www4/serving" / str(number + 1)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            flock(stack.enter_context(path.open("w")), LOCK_EX)
        said = restore(pair, "--to", pair.folder / "back", node="www5", status=6)
        assert f": www4 {ssh.BUSY}\n" in said
        assert "damaged" not in said
        serving = pair.folder / "state-www4/serving"
        shutil.rmtree(serving.with_name("listing"))
        serving.rename(serving.with_name("listing"))
        listed = pair.command("www4", "serve")
        ended = subprocess.run(
            listed, env={**os.environ, "SSH_ORIGINAL_COMMAND": "list"}, capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stdout, f"www4 {ssh.BUSY}" in ended.stderr) == (1, "", True)


def test_what_the_sender_has_no_right_to_read_is_named(pair: PlayedPair, www4: Reached) -> None:
    os.setxattr(pair.volume / "mail/1", "trusted.overlay.opaque", b"y")
    pair.backs_up()
    said = restore(pair, "--path", "mail", "--to", pair.folder / "back", node="www5", status=1)
    assert "'mail/1' and 1 more: attributes `trusted.` are not sent over ssh" in said  # it has two names


def test_a_peer_that_hangs_is_given_up(pair: PlayedPair, www4: Reached) -> None:
    pair.extra += "[limits]\nssh = 1\n"
    os.kill(www4.pid, signal.SIGSTOP)
    try:
        said = restore(pair, "--to", pair.folder / "back", node="www5", status=6)
        assert "www4" in said
    finally:
        os.kill(www4.pid, signal.SIGCONT)


def test_a_peer_whose_disk_sleeps_is_waited_for(pair: PlayedPair, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    serve = pair.command("www4", "serve")
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {" ".join(serve)}\n')
    slow.chmod(0o755)
    with sshd(pair.folder / "ssh", str(slow)) as reached:
        pair.extra = f"{reached.table('www4')}[limits]\nssh = 1\n"
        assert [copy["reachable"] for copy in pair.copies("www5")] == [None], "a late answer says nothing of the disk"
        restore(pair, "--from", "www4", "--to", pair.folder / "back", node="www5")


def test_a_shell_that_prints_something_first_is_quoted(pair: PlayedPair, tmp_path: Path) -> None:
    greets = tmp_path / "greets"
    greets.write_text(f'#!/bin/sh\necho "Welcome to www4"\nexec {" ".join(pair.command("www4", "serve"))}\n')
    greets.chmod(0o755)
    with sshd(pair.folder / "ssh", str(greets)) as reached:
        pair.extra = f"{reached.table('www4')}[limits]\nssh = 20\nanswer = 20\nprobe = 20\n"
        assert "Welcome to www4" in pair.json("www5", "latest")["closed_roads"]["www4"]
        ended = pair.json("www5", "peer", "test", "www4", status=1)
        assert (ended["error"]["code"], "Welcome to www4" in ended["error"]["message"]) == ("peer.refused", True)


def test_a_peer_that_is_another_machine_now_is_not_asked(pair: PlayedPair, www4: Reached) -> None:
    known = www4.folder / "known"
    known.write_text(f"[127.0.0.1]:{www4.port} {(www4.folder / 'key.pub').read_text()}")
    assert "over ssh" in restore(pair, "--to", pair.folder / "back", node="www5", status=6)


def test_without_a_peer_in_the_configuration_the_hint_names_it(pair: PlayedPair) -> None:
    assert "www4" in restore(pair, "--to", pair.folder / "back", node="www5", status=6)


def test_a_peer_that_dies_in_the_middle_leaves_no_mount_there(pair: PlayedPair, www4: Reached) -> None:
    with (pair.volume / "large").open("wb") as file:
        file.write(os.urandom(20 << 20))
    pair.backs_up()
    restoring = preloaded.Popen(
        pair.command("www5", "restore", "--yes", "--to", str(pair.folder / "back")),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: (pair.folder / "back").exists() or restoring.poll() is not None, "the restore to begin")
    restoring.kill()
    restoring.wait(30)
    until = time.monotonic() + 30
    while www4.ask("list").stdout.find(b'"closed": {}') < 0:
        assert time.monotonic() < until, "the disk stays in use"
    assert nothing_is_left(pair.folder)


def test_what_lies_aside_on_the_peers_disk_comes_too(pair: PlayedPair, www4: Reached) -> None:
    """As where its file system has no place for such a name."""
    odd = pair.volume / "odd"
    odd.write_text("what?")
    pair.backs_up()
    state = str(pair.folder / "state-www4")
    copy = view.copies(state, "www4", "raid", ())[0]
    with mounted(pair.folder / "disk-www4.img", pair.folder / "by-hand", "loop") as at:
        folder = at / "drbdbackup/raid" / copy.snapshot
        (folder / "aside").mkdir()
        (folder / "data/odd").rename(layout.stored_at(str(folder), b"odd"))
        lines = gzip.decompress((folder / "manifest.gz").read_bytes()).splitlines(keepends=True)
        number = next(number for number, line in enumerate(lines) if line.endswith(b" odd\n"))
        lines[number] = lines[number].replace(b" s ", b" S ", 1).replace(b" r ", b" S ", 1)
        (folder / "manifest.gz").write_bytes(gzip.compress(b"".join(lines)))
        found = sidecar.read(str(folder))
        can, digest = {**found.abilities, "any_name": False}, manifest.digest_of(str(folder / "manifest.gz"))
        sidecar.write(str(folder), msgspec.structs.replace(found, manifest_sha256=digest, abilities=can, sha256=""))
        made = sidecar.read(str(folder)).copy(copy.location, copy.path)
    store.record(state, "www4", [copied("www4", datetime.now(UTC), made)])
    restore(pair, "--from", "www4", "--to", pair.folder / "back", node="www5")
    assert (pair.folder / "back/odd").read_text() == "what?"
