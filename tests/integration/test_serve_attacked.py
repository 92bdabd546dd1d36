"""A peer that speaks rsync's protocol itself: with words that `serve` allows it tries to get at what it may not."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from fcntl import F_SETPIPE_SZ, fcntl
from pathlib import Path
from shutil import copy
from struct import pack

import pytest

from drbdbackup import proc
from drbdbackup.tools.ssh import BUSY
from tests import preloaded
from tests.played_media import disk_image, nothing_is_left
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts want root")

WITHOUT_CAGES = ("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin")
DAC_OVERRIDE = 1 << 1
SENDER = b"--sender\0-rt\0.\0/snapshot/data/\0"
RULES = (b"merge %s", b". %s", b".- %s", b": %s")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PlayedPair:
    folder = tmp_path_factory.mktemp("pair")
    played = PlayedPair(folder, targets={"disk": ""})
    played.add_disk("disk", f"{folder}/disk-{{node}}.img")
    disk_image(folder / "disk-www4.img")
    (played.volume / "index.php").write_text("<?php phpinfo();")
    played.backs_up()
    return played


def asking(pair: PlayedPair, *under: str, path: str = "") -> preloaded.Popen:
    """`serve`, as sshd starts it for somebody who wants the newest snapshot's tree; `path` comes first on PATH."""
    words = f"snapshots rsync --server --sender -rt . disk/raid/{pair.copies()[0]['snapshot']}/data/"
    env = {**os.environ, "SSH_ORIGINAL_COMMAND": words, "PATH": f"{path}:{os.environ['PATH']}"}
    return preloaded.Popen(
        [*under, *pair.command("www4", "serve")], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def told(asked: preloaded.Popen, rule: bytes) -> bytes:
    """All that comes back for one filter rule, without the protocol's version and its random seed."""
    said, errors = asked.communicate(pack("<i", 29) + pack("<i", len(rule)) + rule + pack("<i", 0), timeout=60)
    assert len(said) >= 8, errors
    return bytes(said[8:] + errors)


def test_a_filter_rule_reads_no_file_of_the_node_and_finds_none(pair: PlayedPair) -> None:
    secret, missing = (os.fsencode(pair.folder / name) for name in ("there", "other"))
    Path(os.fsdecode(secret)).write_text("a-secret\nindex.php\n")
    assert b"index.php" in told(asking(pair), b"- nothing-of-that-name")
    for rule in RULES:
        one, other = (told(asked, rule % path) for asked, path in ((asking(pair), secret), (asking(pair), missing)))
        assert b"a-secret" not in one
        assert one.replace(secret, b"") == other.replace(missing, b""), rule
    assert nothing_is_left(pair.folder)


def test_the_sender_sees_one_snapshot_and_may_only_read(pair: PlayedPair) -> None:
    asked = asking(pair)
    try:
        assert len(asked.stdout.read(4)) == 4
        [sender] = [one for one in Path("/proc").glob("[0-9]*") if read(one / "cmdline").endswith(SENDER)]
        shown = {path.name for path in (sender / "root").iterdir()}
        assert shown - {"lib32", "libx32", "nix", "gnu"} == {"etc", "lib", "lib64", "snapshot", "usr"}
        assert {path.name for path in (sender / "root/usr/bin").iterdir()} == {"rsync", "setpriv"}
        status = dict(line.split(":\t", 1) for line in read(sender / "status").decode().splitlines())
        assert {int(status[name], 16) for name in ("CapBnd", "CapEff", "CapPrm")} == {DAC_OVERRIDE}
        assert status["NoNewPrivs"] == "1"
        assert set(os.listdir(sender / "fd")) == {"0", "1", "2"}
        assert os.readlink(sender / "ns/net") != os.readlink("/proc/self/ns/net")
        assert os.getpriority(os.PRIO_PROCESS, int(sender.name)) == 19
        limits = read(sender / "limits").decode().splitlines()  # it keeps as many rules as come
        memory = next(line for line in limits if line.startswith("Max data size")).split()[3]
        assert (memory, read(sender / "oom_score_adj")) == (str(proc.memory_for_untrusted_input()), b"1000\n")
        table = [line.split() for line in read(sender / "mountinfo").decode().splitlines()]
        mounts = {words[4]: words[5].split(",") for words in table}
        assert all("ro" in options and "nosuid" in options for point, options in mounts.items() if point != "/")
        assert {"ro", "nosuid", "nodev", "noexec", "nosymfollow"} <= set(mounts["/snapshot"])
        assert "ro" in mounts["/"]
    finally:
        asked.communicate(b"", timeout=60)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_an_rsync_from_elsewhere_works_or_the_peer_hears_why_not(pair: PlayedPair) -> None:
    program = pair.folder / "bin/rsync"
    program.parent.mkdir()
    copy("/usr/bin/rsync", program)
    assert b"index.php" in told(asking(pair, path=str(program.parent)), b"- x")
    program.write_text("#!/opt/rsync/bin/sh\n")
    _, errors = asking(pair, path=str(program.parent)).communicate(b"", timeout=60)
    assert b"not with what its sandbox holds" in errors


def test_nothing_is_sent_where_no_sandbox_can_be_had(pair: PlayedPair) -> None:
    asked = asking(pair, *WITHOUT_CAGES)
    said, errors = asked.communicate(b"", timeout=60)
    assert (asked.returncode, said) == (1, b"")
    assert b"no copy is sent" in errors


def test_who_reads_no_answer_is_not_waited_for_and_only_six_are(
    pair: PlayedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = replace(pair, extra="[limits]\nstall = 8\n")
    read, write = os.pipe()
    fcntl(write, F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(512))
    try:
        asked = []
        for word in ("catalog", "digests") * 4:
            monkeypatch.setenv("SSH_ORIGINAL_COMMAND", word)
            argv = pair.command("www4", "serve")
            asked.append(preloaded.Popen(argv, stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE))
        said = [one.communicate(timeout=60)[1] for one in asked]
    finally:
        os.close(read)
        os.close(write)
    assert all(one.returncode for one in asked), said
    assert sum(BUSY.encode() in words for words in said) == 2, said
