"""A run in the log of the system: real datagrams where journald and syslog have their sockets, in a namespace."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drbdbackup.report.monitoring import system_log
from tests.played_pair import PlayedPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount namespace")
# Binds the socket, runs the commands, and writes down each datagram that came.
LISTENER = """
import os, socket, subprocess, sys
folder, place, *commands = sys.argv[1:]
os.makedirs(os.path.dirname(place), exist_ok=True)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
    log.bind(place)
    for command in commands:
        subprocess.run(command, shell=True)
    log.setblocking(False)
    for number in range(99):
        try:
            datagram = log.recv(1 << 20)
        except BlockingIOError:
            break
        with open(f"{folder}/{number:02}", "wb") as file:
            file.write(datagram)
"""
# /run and /dev of its own: a log of this machine is neither read nor written.
PRIVATE = """
set -e
mount -t tmpfs none /run
mount -t tmpfs none /mnt
for device in null zero full random urandom tty; do
    touch /mnt/$device
    mount --bind /dev/$device /mnt/$device
done
mkdir /mnt/shm
ln -s /proc/self/fd /mnt/fd
mount --rbind /mnt /dev
exec "$@"
"""


def logged(pair: PlayedPair, place: str, *commands: str) -> list[str]:
    """What was sent to `place` by commands that have no terminal and find no other log."""
    folder = pair.folder / "datagrams"
    folder.mkdir(exist_ok=True)
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE, "sh", sys.executable, "-c", LISTENER]
    subprocess.run([*argv, str(folder), place, *commands], check=True, timeout=120, stdin=subprocess.DEVNULL)
    return [file.read_bytes().decode() for file in sorted(folder.iterdir())]


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def shell(pair: PlayedPair, node: str, *args: str) -> str:
    return " ".join(f"'{word}'" for word in pair.command(node, *args)) + f" >>{pair.folder}/out 2>&1"


def test_journald_gets_each_run_with_its_fields(pair: PlayedPair) -> None:
    commands = [shell(pair, node, "run") for node in ("www4", "www5")]
    commands += [f"mv {pair.folder}/nas {pair.folder}/gone", shell(pair, "www4", "run")]
    commands += [shell(pair, "www4", "run", "--dry-run"), shell(pair, "www4", "latest")]
    commands += [f"echo no catalog >{pair.folder}/state-www4/catalog.db", shell(pair, "www4", "run", "--dry-run")]
    told = logged(pair, "/run/systemd/journal/socket", *commands)
    entries = [dict(line.split("=", 1) for line in one.splitlines()) for one in told]
    assert [(one["OUTCOME"], one["PRIORITY"]) for one in entries] == [
        ("complete", "6"), ("stood-down", "6"), ("failed", "3"),
    ]  # fmt: skip
    [done, aside, failed] = entries
    assert {one["MESSAGE_ID"] for one in entries} == {system_log.RUN_ENDED}
    assert {(one["RESOURCE"], one["SYSLOG_IDENTIFIER"]) for one in entries} == {("raid", "drbdbackup")}
    assert done["RUN"] in done["MESSAGE"]
    assert pair.folder.joinpath("gone/drbdbackup/raid", done["RUN"]).is_dir()
    assert "RUN" not in aside
    assert failed["ERROR_CODE"]
    assert "nas" in failed["MESSAGE"]


def test_without_journald_syslog_gets_it(pair: PlayedPair) -> None:
    [told] = logged(pair, "/dev/log", shell(pair, "www4", "run"))
    assert re.match(r"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d drbdbackup\[\d+\]: raid: complete, \d{8}T", told)
    assert pair.folder.joinpath("out").read_text() == ""


def test_without_either_a_run_is_what_it_was(pair: PlayedPair) -> None:
    assert logged(pair, "/run/elsewhere", shell(pair, "www4", "run")) == []
    assert pair.folder.joinpath("out").read_text() == ""
    assert len(pair.copies()) == 1
