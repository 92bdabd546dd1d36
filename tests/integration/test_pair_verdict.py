"""`status` on one node knows what both have done, and that nobody made the backup though each node did right."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import bodies, store, view
from drbdbackup.catalog.bodies import Run
from drbdbackup.model.backup import Outcome, iso, snapshot_name
from tests.played_pair import PlayedPair
from tests.settled import wait_for_the_next_second

NOW = datetime.now(UTC)
HOURS = timedelta(hours=1)


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """A backup is due each hour, and half an hour is its grace. Old copies are only told of: nobody reads them."""
    extra = '[limits]\ngrace = "30m"\n[verify]\nshare = 0\n'
    pair = PlayedPair(tmp_path, head='schedule = "0 * * * *"', extra=extra)
    (pair.volume / "page").write_bytes(b"x" * 1000)
    return pair


def only_an_old_backup(pair: PlayedPair, age: timedelta) -> None:
    """The target is there and known, and the newest copy on it is as old as that."""
    pair.backs_up("www4")
    state = str(pair.folder / "state-www4")
    [new] = view.copies(state, "www4", "raid", ["nas"])
    old = replace(new, snapshot=snapshot_name(NOW - age, "www4"), started_at=NOW - age, finished_at=NOW - age)
    facts = [bodies.pruned("www4", NOW, new, "played"), bodies.copied("www4", NOW, old)]
    store.record(state, "www4", facts)
    wait_for_the_next_second()


def told(pair: PlayedPair, node: str) -> Any:
    return pair.json(node, "status")["resources"][0]["pair"]


def test_after_a_run_of_both_all_is_well_on_both(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    pair.backs_up("www5")
    assert pair.run("www4", "sync").returncode == 0
    for node in ("www4", "www5"):
        assert told(pair, node)["state"] == "ok"
        assert pair.run(node, "status", "--check").returncode == 0
        assert "ok: www4 made " in pair.run(node, "status").stdout


def test_a_new_pair_is_a_warning(pair: PlayedPair) -> None:
    assert told(pair, "www4")["state"] == "warning"
    said = pair.run("www4", "status").stdout
    assert "warning: no backup has been made yet" in said
    assert "OVERDUE" not in said
    assert pair.json("www4", "status")["resources"][0]["due_since"], "so cron's next call makes the first one"


def test_both_secondary_is_critical_seen_from_either_node(pair: PlayedPair) -> None:
    only_an_old_backup(pair, 5 * HOURS)
    pair.roles(None)
    for node in ("www4", "www5"):
        pair.backs_up(node)
    held = pair.folder / "state-www4/lock"
    with held.open("a") as lock:  # a run hangs, or somebody has stopped it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pair.json("www4", "run", "--if-due")["alarms"] == []
        os.utime(held, (0, time.time() - 7 * 3600))  # longer than a run may last
        [alarm] = pair.json("www4", "run", "--if-due", status=8)["alarms"]
        assert str(held) in alarm["because"][-1]
    [other] = pair.json("www5", "run", "--if-due", status=8)["alarms"]
    for one in (alarm, other):
        assert (one["resource"], one["error"]["code"]) == ("raid", "pair.critical")
        assert "nobody has made the backup" in one["because"][0]
    assert pair.run("www4", "sync").returncode == 0
    for node in ("www4", "www5"):
        ended = pair.run(node, "run", "--if-due")  # a quarter of an hour later it is no news
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert pair.run(node, "status", "--check").returncode == 8
        verdict = told(pair, node)
        assert verdict["state"] == "critical"
        assert "www4 and www5 all stood down" in verdict["because"][0]
        assert pair.run(node, "status").returncode == 0


def test_a_node_that_is_silent_is_critical_though_the_other_backs_up(pair: PlayedPair) -> None:
    pair.backs_up("www4")
    long_ago = NOW - 60 * HOURS
    run = Run(
        name=snapshot_name(long_ago, "www5"),
        resource="raid",
        node="www5",
        outcome=Outcome.STOOD_DOWN,
        started_at=long_ago,
        finished_at=long_ago,
    )
    store.record(str(pair.folder / "state-www5"), "www5", [bodies.ran(run)])
    assert pair.run("www5", "sync").returncode == 0
    pair.backs_up("www4")
    assert told(pair, "www4")["state"] == "ok", "its catalog has only just come"
    with closing(sqlite3.connect(pair.folder / "state-www4/catalog.db")) as catalog:
        catalog.execute("UPDATE seen SET seen_at = ? WHERE node = 'www5'", (iso(long_ago),))
        catalog.commit()
    because = [f"www5 has not been heard of since {iso(long_ago)}"]
    assert told(pair, "www4") == {"state": "critical", "because": because}
    assert pair.json("www4", "run", "--if-due", status=8)["alarms"][0]["because"] == because
    quiet = pair.run("www4", "run", "--if-due")  # once for each due time
    assert (quiet.returncode, quiet.stderr) == (0, "")
