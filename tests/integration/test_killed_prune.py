"""The weekly prune locks everybody out of a repository. A node that is stopped in the middle of it does not do so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from drbdbackup.targets.restic import WAITED
from tests.newer_restic import with_newer_restic
from tests.played_lock import move_lock
from tests.played_media import nothing_is_left, wait_for
from tests.played_pair import TIMEOUT, PlayedPair
from tests.played_repository import add_repository, asked, recorded, rest_server, slow_line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

KEEPS_ONE = "retention = { last = 1, daily = 0, weekly = 0, monthly = 0, minimum = 1 }"
STALE = timedelta(minutes=30)
LEFT = timedelta(seconds=12)


def stopped_in_its_prune(pair: PlayedPair) -> list[Path]:
    """A run of www4 that has come to its weekly prune when the cluster wants the volume. The locks that it leaves."""
    recorded(pair)
    (pair.volume / "large").write_bytes(os.urandom(3 << 20))
    os.utime(pair.folder / "cache-offsite-www4/tidied", (0, 0))
    run = subprocess.Popen(pair.command("www4", "run"), env={**os.environ, "PATH": pair.path})
    locks, argv = pair.folder / "served/locks", pair.folder / "bin/argv"
    try:
        wait_for(lambda: argv.exists() and "prune --max-unused" in argv.read_text(), "the prune")
        wait_for(lambda: any(one.stat().st_size for one in locks.iterdir()), "its lock")
        pair.roles("www5")
        run.send_signal(signal.SIGUSR1)
        assert run.wait(TIMEOUT) == 7
    finally:
        run.kill()
    return list(locks.iterdir())


def of_target(document: dict[str, Any], name: str) -> dict[str, Any]:
    [run] = document["runs"]
    [found] = [one for one in run["targets"] if one["target"] == name]
    assert found["error"] is None, found
    return dict(found)


@with_newer_restic
def test_a_prune_that_is_stopped_keeps_no_backup_from_being_made(tmp_path: Path) -> None:
    pair = PlayedPair(tmp_path)
    for name in ("kept", "large"):  # in one pack, of which a part has to be stored again
        (pair.volume / name).write_bytes(os.urandom(3 << 20))
    with rest_server(tmp_path / "served") as server, slow_line(server) as slow:
        add_repository(pair, "offsite", slow.address, KEEPS_ONE)
        pair.backs_up("www4")
        [lock] = stopped_in_its_prune(pair)
        add_repository(pair, "offsite", server.address, KEEPS_ONE)
        assert json.loads(asked(pair, "offsite", "cat", "lock", lock.name, "--no-lock"))["exclusive"]
        (tmp_path / "bin/restic").write_text(f"""#!/bin/sh
case "$*" in *drbdbackup-data*) : >{tmp_path}/waits; until [ -e {tmp_path}/goes-on ]; do sleep 0.05; done ;; esac
exec {shutil.which("restic")} "$@"
""")
        waited = tmp_path / "cache-offsite-www5" / WAITED  # in vain, long ago
        waited.parent.mkdir(0o700, exist_ok=True)
        waited.touch()
        os.utime(waited, (1, 1))
        run = subprocess.Popen([*pair.command("www5", "run"), "--json"], stdout=subprocess.PIPE,
                               env={**os.environ, "PATH": pair.path})  # fmt: skip
        try:
            wait_for((tmp_path / "waits").exists, "its backup")
            move_lock(pair, "offsite", lock.parent, age=STALE - LEFT, host="www4")
            (tmp_path / "goes-on").touch()
            told = json.loads(run.communicate(timeout=TIMEOUT)[0])
        finally:
            run.kill()
        nas, offsite = (of_target(told, name) for name in ("nas", "offsite"))
        assert any("waited" in note for note in offsite["notes"]), offsite["notes"]
        assert nas["copy"]["finished_at"] < offsite["copy"]["finished_at"], "no other target waits for it"
        assert list(lock.parent.iterdir()) == []
        assert not waited.exists(), "the next lock is worth a wait again"
        asked(pair, "offsite", "check", "--read-data")
        assert pair.json("www5", "verify", "--target", "offsite")["copies"][0]["ok"]
    assert nothing_is_left(tmp_path)
