"""What the mount table is read to say is what the kernel does, whatever is mounted over, moved or unmounted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.played_pair import PlayedPair

PLAYS_WITH_MOUNTS = """
import json, os, random, subprocess, sys
from drbdbackup.tools import mounts

top, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
folders = [f"{top}/{one}" for one in ("a", "a/b", "a/b/c", "d d", "d d/e")]

def furnish():
    for folder in folders:
        os.makedirs(folder, exist_ok=True)

def seen_by_the_kernel(folder):
    fd = os.open(folder, os.O_PATH)
    try:
        return mounts.mount_id_of(fd)
    finally:
        os.close(fd)

wrong = []
furnish()
for _ in range(25):
    one, other = chance.choice(folders), chance.choice(folders)
    argv = chance.choice([
        ["mount", "-t", "tmpfs", "tmpfs", one], ["mount", "--bind", one, other], ["mount", "--move", one, other],
        ["umount", one], ["umount", "--lazy", one], ["mount", "--rbind", one, other],
    ])
    subprocess.run(argv, capture_output=True)
    furnish()
    table = mounts.table()
    by_id = {mount.mount_id: mount for mount in table}
    for folder in folders:
        told, there = mounts.mounted_at(table, folder), by_id[seen_by_the_kernel(folder)]
        expected = there.mount_id if there.point == folder else None
        if (told.mount_id if told else None) != expected:
            wrong.append([argv, folder, str(told), str(there)])
print(json.dumps(wrong))
"""


@pytest.mark.parametrize("seed", range(8))
def test_what_is_mounted_at_a_folder_is_what_opening_it_leads_to(tmp_path: Path, seed: int):
    argv = ("unshare", "--mount", sys.executable, "-c", PLAYS_WITH_MOUNTS, str(tmp_path), str(seed))
    said = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == []


def test_without_proc_each_command_says_so(tmp_path: Path) -> None:
    """As in a chroot in which nobody has mounted it."""
    pair = PlayedPair(tmp_path)
    (pair.volume / "page").write_text("x")
    pair.backs_up()
    other = tmp_path / "state-www4/scratch/999999-of-a-process-that-cannot-be-looked-for"
    other.mkdir(parents=True)
    pair.under = ("unshare", "--mount", "sh", "-c", 'umount --lazy /proc; exec "$@"', "sh")
    for words in ("run", "status", "verify", "find page", "sync", "doctor"):
        ended = pair.run("www4", *words.split())
        assert ended.returncode == 1, words
        assert "Is /proc mounted?" in ended.stderr, ended.stderr
    assert other.exists()
    assert pair.run("www4", "latest").returncode == 0
