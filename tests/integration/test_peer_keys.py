"""`peer add` on one node and then on the other: keys, lines and host keys, over a real sshd on each side."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from drbdbackup.tools import ssh_keys
from tests.captured import play
from tests.played_media import disk_image
from tests.played_pair import PlayedPair
from tests.played_sshd import Reached, sshd_of
from tests.played_terminal import at_a_terminal, on_a_terminal

NODES = ("www4", "www5")
ADMINS = "# the admins\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI jo@desk"


@dataclass
class Keyed:
    """Both nodes with a disk, a home and an sshd each; `reached` leads to a node's sshd by the admin's key."""

    pair: PlayedPair
    reached: dict[str, Reached]

    def home(self, node: str) -> Path:
        return self.pair.folder / f"home-{node}"

    def authorized(self, node: str) -> Path:
        return self.home(node) / ".ssh/authorized_keys"

    def environment(self, node: str) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home(node)), "PATH": path_of(self.pair, node)}

    def run(self, node: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["drbdbackup", *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            env=self.environment(node),
        )  # fmt: skip

    def add(self, node: str, peer: str, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run(node, "peer", "add", peer, "--identity", str(self.reached[peer].folder / "key"), "--yes", *args)


def path_of(pair: PlayedPair, node: str) -> str:
    return f"{pair.folder}/bin-{node}:{os.environ['PATH']}"


def table(keyed: Keyed, node: str) -> str:
    """How the other node reaches this one: by a key of its own that is not there yet."""
    other, reached = NODES[node == "www4"], keyed.reached[node]
    home = keyed.home(other)
    words = ["-F", "/dev/null", "-p", str(reached.port), "-i", f"{home}/.ssh/drbdbackup", "-o", "IdentitiesOnly=yes"]
    words += ["-o", f"UserKnownHostsFile={home}/.ssh/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null"]
    options = ", ".join(f'"{word}"' for word in words)
    return f'[peer.{node}]\nssh = "root@127.0.0.1"\noptions = [{options}]\n'


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    pair = PlayedPair(tmp_path, targets={"disk": ""})
    pair.add_disk("disk", f"{tmp_path}/disk-{{node}}.img")
    played = Keyed(pair, {})
    with ExitStack() as stack:
        for node in NODES:
            disk_image(tmp_path / f"disk-{node}.img")
            played.authorized(node).parent.mkdir(mode=0o700, parents=True)
            (tmp_path / f"bin-{node}").mkdir()
            path = path_of(pair, node)
            played.reached[node] = stack.enter_context(sshd_of(tmp_path / f"ssh-{node}", played.home(node), path))
        pair.extra = "".join(table(played, node) for node in NODES)
        for node in NODES:
            argv = shlex.join(pair.command(node))
            play(tmp_path / f"bin-{node}/drbdbackup", f'#!/bin/sh\nexec {argv} "$@"\n')
        (pair.volume / "page").write_text("x")
        yield played


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_added_on_both_nodes_both_roads_are_open(keyed: Keyed) -> None:
    keyed.authorized("www5").write_text(ADMINS)
    keyed.authorized("www5").chmod(0o640)
    first = keyed.add("www4", "www5")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "from here to www5: open" in first.stdout
    assert "from www5 to here: CLOSED, www4 (root@127.0.0.1) cannot be reached over ssh" in first.stdout
    assert f"{ssh_keys.KEY}" not in first.stdout, "the key of this machine's root is not meant"
    *theirs, ours = lines(keyed.authorized("www5"))
    assert theirs == ADMINS.splitlines()
    assert ours.startswith(f'restrict,command="{keyed.pair.folder}/bin-www5/drbdbackup --config ')
    assert ours.endswith(" drbdbackup@www4")
    assert f"  {ours}" in first.stdout.splitlines()
    assert keyed.authorized("www5").stat().st_mode & 0o7777 == 0o640
    second = keyed.add("www5", "www4")
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("was there already") == 2
    assert [line for line in second.stdout.splitlines() if line.endswith(": open")] == [
        "from here to www4: open", "from www4 to here: open",
    ]  # fmt: skip
    assert [len(lines(keyed.authorized(node))) for node in NODES] == [1, 3]
    assert keyed.run("www4", "peer", "test", "www5").stdout == "www5 answers: 0 copies can be read on its disk\n"
    (keyed.home("www5") / ".bashrc").write_text("echo Welcome\n")
    refused = keyed.add("www4", "www5")
    assert (refused.returncode, "Welcome" in refused.stderr, "~/.bashrc" in refused.stderr) == (1, True, True)
    (keyed.home("www5") / ".bashrc").unlink()
    known, port = keyed.home("www4") / ".ssh/known_hosts", keyed.reached["www5"].port
    another = (keyed.reached["www4"].folder / "host.pub").read_text()
    known.write_text(f"[127.0.0.1]:{port} {another}")
    refused = keyed.add("www4", "www5")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 2, "not ssh's whole page"
    assert f"`ssh-keygen -R '[127.0.0.1]:{port}'`" in refused.stderr, "as known_hosts calls it"
    keyed.authorized("www5").write_text("")
    known.unlink()
    closed = keyed.run("www4", "peer", "add", "www5", "--yes")
    assert f"`ssh -F /dev/null -p {port} " in closed.stderr, "what it says to try is the way that failed"


def test_what_was_added_can_do_nothing_else(keyed: Keyed) -> None:
    assert keyed.add("www4", "www5").returncode == 0
    key = keyed.home("www4") / ".ssh/drbdbackup"
    assert key.stat().st_mode & 0o7777 == 0o600
    options = [*keyed.reached["www5"].options, "-i", str(key), "-o", "IdentitiesOnly=yes"]
    del options[options.index("-i") : options.index("-i") + 2]  # the admin's
    options[options.index("-o", options.index("-p")) + 1] = f"UserKnownHostsFile={keyed.home('www4')}/.ssh/known_hosts"
    for words in ("id", "drbdbackup peer accept www4", "sh"):
        ended = subprocess.run(
            ["ssh", "-T", "-o", "BatchMode=yes", *options, "--", "root@127.0.0.1", words], capture_output=True,
            timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (2, b""), ended.stderr
        assert b"refused" in ended.stderr


def test_a_restore_goes_over_it_and_not_any_more_when_it_is_taken_back(keyed: Keyed) -> None:
    keyed.pair.backs_up("www4")
    assert keyed.add("www5", "www4").returncode == 0
    back = str(keyed.pair.folder / "back")
    ended = keyed.run("www5", "restore", "--yes", "--to", back)
    assert ended.returncode == 0, ended.stderr
    removed = keyed.run("www4", "peer", "remove", "www5")
    assert removed.returncode == 0, removed.stderr
    assert lines(keyed.authorized("www4")) == []
    assert keyed.run("www5", "peer", "test", "www4").returncode == 1
    again = keyed.run("www4", "peer", "remove", "www5")
    assert again.returncode == 6
    assert "drbdbackup@www5" in again.stderr


def test_the_host_key_is_shown_and_nothing_is_done_without_a_yes(keyed: Keyed) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-lf", keyed.reached["www5"].folder / "host.pub"], capture_output=True, text=True, timeout=30
    ).stdout.split()[1]  # fmt: skip
    environment = keyed.environment("www4")
    words = shlex.join(["env", f"HOME={environment['HOME']}", f"PATH={environment['PATH']}", "drbdbackup"])
    identity = shlex.quote(str(keyed.reached["www5"].folder / "key"))
    status, seen = on_a_terminal(f"{words} peer add www5 --identity {identity}", "Go ahead?", b"n\n")
    assert status == 1
    assert shown in seen
    assert list((keyed.home("www4") / ".ssh").iterdir()) == []
    assert not keyed.authorized("www5").exists()
    assert keyed.run("www4", "peer", "add", "www5").returncode == 2, "nobody is there to say yes"
    status, seen = on_a_terminal(f"{words} peer add www5 --identity {identity}", "Go ahead?", b"y\n")
    assert status == 0, seen
    assert "from here to www5: open" in seen


def test_the_admin_may_have_to_type_a_passphrase(keyed: Keyed) -> None:
    """Once for each of the two programs that run there."""
    identity = keyed.reached["www5"].folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "geheim", "-f", identity], check=True, timeout=30)
    environment = keyed.environment("www4")
    words = shlex.join(["env", "-u", "SSH_ASKPASS", f"HOME={environment['HOME']}", f"PATH={environment['PATH']}"])
    status, seen = at_a_terminal(
        f"{words} drbdbackup peer add www5 --identity {shlex.quote(str(identity))}",
        [("Go ahead?", b"y\n"), ("passphrase for key", b"geheim\n"), ("passphrase for key", b"geheim\n")],
    )
    assert status == 0, seen
    assert "from here to www5: open" in seen


def test_a_key_that_may_more_there_is_left_alone_and_told(keyed: Keyed) -> None:
    key = keyed.home("www4") / ".ssh/drbdbackup"
    ssh_keys.create(str(key), "by hand")
    before = key.with_suffix(".pub").read_text()
    keyed.authorized("www5").write_text(before)
    ended = keyed.add("www4", "www5")
    assert ended.returncode == 1
    assert "line 1 of authorized_keys has this very key, with other rights" in ended.stderr
    assert keyed.authorized("www5").read_text() == before
    assert not keyed.authorized("www4").exists()


def test_who_is_not_let_in_is_told_how_it_is_done_by_hand(keyed: Keyed) -> None:
    wrong = keyed.home("www4") / "wrong"
    ssh_keys.create(str(wrong), "wrong")
    ended = keyed.run("www4", "peer", "add", "www5", "--identity", str(wrong), "--yes")
    assert ended.returncode == 1
    assert "Permission denied" in ended.stderr
    assert "docs/peer.md" in ended.stderr
    ended = keyed.run("www4", "peer", "add", "www6", "--yes")
    assert (ended.returncode, 'nodes = ["www4", "www5", "www6"]' in ended.stderr) == (2, True), ended.stderr


def test_who_answers_must_be_who_is_meant(keyed: Keyed) -> None:
    play(keyed.pair.folder / "bin-www5/drbdbackup", f'#!/bin/sh\nexec {keyed.pair.folder}/bin-www4/drbdbackup "$@"\n')
    ended = keyed.add("www4", "www5")
    assert ended.returncode != 0
    assert "www4 is this node" in ended.stderr
    assert not keyed.authorized("www4").exists()


def test_a_node_that_is_down_is_told_before_anything_is_changed(keyed: Keyed) -> None:
    os.kill(keyed.reached["www5"].pid, 9)
    ended = keyed.run("www4", "peer", "add", "www5", "--yes")
    assert ended.returncode == 1
    assert "no sshd answers at 127.0.0.1" in ended.stderr
    assert not (keyed.home("www4") / ".ssh/drbdbackup").exists()
