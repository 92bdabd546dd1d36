"""Real processes, killed in the middle: the catalog is never damaged, and holds the old or the new."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime

import pytest

from drbdbackup.catalog import folders, merge, publish, store, view
from drbdbackup.catalog.facts import fact
from drbdbackup.catalog.local import rows
from drbdbackup.catalog.transfer import fetch, put
from drbdbackup.errors import CatalogError
from tests.properties.played_nodes import ANYBODY

NIGHT = datetime(2024, 11, 1, 4, 30, tzinfo=UTC)
BATCH = 5
AMISS = "SELECT subject FROM fact EXCEPT SELECT subject FROM standing"

# The child dies by SIGKILL at its n-th call, whatever that is: in Python, in SQLite, before or after the commit.
CHILD = """
import os, signal, sys
from drbdbackup.catalog import folders, merge, publish, store
from drbdbackup.catalog.facts import fact
from drbdbackup.catalog.transfer import put
from drbdbackup.catalog.signatures import Signers
from cryptography.hazmat.primitives.asymmetric import ed25519
from datetime import UTC, datetime
import sqlite_utils

state, work, die_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls = 0

def count(frame, event, argument):
    global calls
    if event in ("call", "c_call"):
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

def batch(start, size=5):
    at = datetime(2024, 11, 1, 4, 30, tzinfo=UTC)
    return [fact("www4", at, "copy", "raid", f"raven {start + n}", {"text": "x" * 900}) for n in range(size)]

facts = batch(1000)
sys.setprofile(count)
if work == "record":
    store.record(state, "www4", facts)
elif work == "merge":
    merge.merge(state, state + "/incoming/nas/www5.db", "nas", Signers("www4", frozenset({"www5"}), {}))
elif work == "publish":
    put(publish.publish(state, "www4"), state + "/road", "www4")
sys.setprofile(None)
print(calls)
if work == "endless":
    start = 0
    while True:
        store.record(state, "www4", batch(start))
        start += 5
        print(start, flush=True)
"""


def child(state, work, die_at=0):
    argv = [sys.executable, "-c", CHILD, state, work, str(die_at)]
    still = {**os.environ, "PYTHONHASHSEED": "0"}  # the same calls every time
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=still)


def calls_of(state, work):
    """How many calls the work takes when nothing kills it."""
    out, _ = child(state, work).communicate(timeout=60)
    return int(out)


def omens(node, start, number=BATCH):
    return [fact(node, NIGHT, "copy", "raid", f"raven {start + n}", {"text": "x" * 900}) for n in range(number)]


def a_state(folder):
    """A node that knows a few things, and has a catalog of www5 to take in."""
    state, other = str(folder / "www4"), str(folder / "www5")
    store.record(state, "www4", omens("www4", 0))
    store.record(other, "www5", omens("www5", 0, 40))
    put(publish.publish(other, "www5"), _made(folder / "nas"), "www5")
    fetch(str(folder / "nas"), folders.incoming_folder(state, "nas"), {}, ANYBODY.nodes)
    _made(folder / "www4" / "road")
    return state


def _made(folder):
    folder.mkdir(exist_ok=True)
    return str(folder)


def known(state):
    """How many facts; the view is asked first, as `latest` would be after a power cut."""
    view.copies(state, "www4", "raid", ())
    number = rows(state, "SELECT count(*) FROM fact")[0][0]
    with closing(sqlite3.connect(f"{state}/catalog.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute(AMISS).fetchall() == []
    return number


@pytest.mark.parametrize(("work", "more"), [("record", BATCH), ("merge", 40)])
def test_a_kill_at_any_call_leaves_the_old_or_the_new(tmp_path, work, more):
    calls = calls_of(a_state(tmp_path), work)
    assert calls > 100
    ends = set()
    for turn, die_at in enumerate([*range(calls // 14, calls - 8, calls // 14), *range(calls - 8, calls, 2)]):
        folder = tmp_path / str(turn)
        folder.mkdir()
        state = a_state(folder)
        process = child(state, work, die_at)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        ends.add(known(state))
        assert store.record(state, "www4", omens("www4", 5000)) == BATCH
    assert ends == {BATCH, BATCH + more}


def test_a_kill_at_any_call_of_publishing_leaves_a_whole_file_on_the_road(tmp_path):
    state = a_state(tmp_path)
    publish.publish(state, "www4")  # makes the key
    calls = calls_of(state, "publish")
    reader = str(tmp_path / "reader")
    for die_at in range(calls // 14, calls, calls // 14):
        process = child(state, "publish", die_at)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        fetched = fetch(f"{state}/road", f"{reader}/in", {}, ANYBODY.nodes)
        assert list(fetched) == ["www4.db"]
        assert not merge.merge(reader, f"{reader}/in/www4.db", "nas", ANYBODY).refused
    assert view.seen(reader)["www4"].road == "nas"


def test_a_writer_that_is_killed_while_it_writes_loses_nothing_that_it_reported(tmp_path):
    for turn in range(15):
        state = str(tmp_path / str(turn))
        with child(state, "endless") as process:
            assert process.stdout is not None
            process.stdout.readline()
            reported = [int(process.stdout.readline()) for _ in range(turn % 4 + 1)][-1]
            process.kill()
            reported = max([reported, *(int(line) for line in process.stdout if line.endswith("\n"))])
        assert known(state) in (reported, reported + BATCH)


HALF_WRITTEN = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE fact SET body = replace(body, 'x', 'y')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reader_undoes_what_a_killed_writer_had_half_written(tmp_path):
    state = str(tmp_path / "state")
    store.record(state, "www4", omens("www4", 0, 300))
    before = rows(state, "SELECT * FROM fact ORDER BY id")
    with open(f"{state}/catalog.db", "rb") as file:
        untouched = file.read()
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, f"{state}/catalog.db"], check=False, timeout=60)
    with open(f"{state}/catalog.db", "rb") as file:
        assert file.read() != untouched
    assert os.path.exists(f"{state}/catalog.db-journal")
    assert rows(state, "SELECT * FROM fact ORDER BY id") == before


def test_a_journal_goes_aside_with_its_catalog_and_never_into_the_new_one(tmp_path):
    state = str(tmp_path / "state")
    store.record(state, "www4", omens("www4", 0, 300))
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, f"{state}/catalog.db"], check=False, timeout=60)
    aside = store.set_aside(state)
    assert os.path.exists(f"{aside}-journal")
    store.record(state, "www4", omens("www4", 0))
    assert known(state) == BATCH


WRITER = """
import sys
from datetime import UTC, datetime
from drbdbackup.catalog import store
from drbdbackup.catalog.facts import fact
for n in range(30):
    store.record(sys.argv[1], "www4", [fact("www4", datetime.now(UTC), "copy", "raid", f"{sys.argv[2]} {n}", {})])
"""


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path):
    state = str(tmp_path / "state")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, state, name]) for name in ("left", "right", "third")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    assert known(state) == 90


def test_what_lies_on_a_road_and_is_no_catalog_of_a_node_stays_there(tmp_path):
    road, state = tmp_path / "road", str(tmp_path / "state")
    store.record(state, "www4", omens("www4", 0))
    put(publish.publish(state, "www4"), str(road), "www4")
    (road / "www5.db").symlink_to("/etc/passwd")
    os.mkfifo(road / "www6.db")
    (road / "www7.db").mkdir()
    os.mknod(road / "www8.db", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    (road / ".hidden.db").write_text("x")
    (road / "www9.txt").write_text("x")
    with open(road / "huge.db", "wb") as huge:
        huge.truncate(1 << 40)
    assert list(fetch(str(road), str(tmp_path / "in"), {}, ANYBODY.nodes)) == ["www4.db"]
    assert os.listdir(tmp_path / "in") == ["www4.db"]


def test_an_unchanged_file_is_not_copied_again_and_a_refused_one_is(tmp_path):
    state, road, into = str(tmp_path / "www5"), tmp_path / "road", str(tmp_path / "in")
    store.record(str(tmp_path / "www4"), "www4", omens("www4", 0))
    put(publish.publish(str(tmp_path / "www4"), "www4"), str(road), "www4")
    (road / "www6.db").write_text("no catalog")
    for expected in (["www4.db", "www6.db"], ["www6.db"]):
        fetched = fetch(str(road), into, view.known_files(state, "nas"), ANYBODY.nodes)
        assert list(fetched) == expected
        assert [bool(one.refused) for one in merge.merge_fetched(state, "nas", into, fetched, ANYBODY)][-1] is True
    put(publish.publish(str(tmp_path / "www4"), "www4"), str(road), "www4")
    assert "www4.db" in fetch(str(road), into, view.known_files(state, "nas"), ANYBODY.nodes)


def test_what_we_put_on_a_road_ourselves_is_not_fetched_from_it(tmp_path):
    state, road = str(tmp_path / "www4"), str(tmp_path / "road")
    store.record(state, "www4", omens("www4", 0))
    stamp = put(publish.publish(state, "www4"), road, "www4")
    merge.remember(state, "nas", {"www4.db": stamp})
    assert fetch(road, str(tmp_path / "in"), view.known_files(state, "nas"), ANYBODY.nodes) == {}


def test_a_road_that_is_not_there_is_never_made(tmp_path):
    state, road = str(tmp_path / "www4"), str(tmp_path / "unmounted" / "drbdbackup" / "catalog")
    store.record(state, "www4", omens("www4", 0))
    with pytest.raises(CatalogError):
        put(publish.publish(state, "www4"), road, "www4")
    assert fetch(road, str(tmp_path / "in"), {}, ANYBODY.nodes) == {}
    assert not (tmp_path / "unmounted").exists()
