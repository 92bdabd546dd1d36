"""A run that is killed after any event of its journal loses nothing, leaves nothing behind, and the next one heals.

The journal is a FIFO here: the test reads one event after another and kills the run right after the one in question.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.played_media import disk_image, mount_points, nothing_is_left
from tests.played_pair import PlayedPair, differences
from tests.settled import wait_until_settled

EVENTS = 10  # of a run on two targets: begun, walked, and opened, ready, published, done of each
PATIENCE = 60


CASES = [("ext4", signal.SIGKILL, number) for number in range(1, EVENTS + 1)]
CASES += [("ext4", signal.SIGTERM, number) for number in (1, 3, 6, 9)]
CASES += [("btrfs", signal.SIGKILL, number) for number in (2, 4, 7)]


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PlayedPair]:
    disk_image(tmp_path / "disk.img", getattr(request, "param", "ext4"))
    played = PlayedPair(tmp_path)
    played.add_disk("disk", str(tmp_path / "disk.img"))
    for number in range(40):
        (played.volume / f"file-{number}").write_text(f"content {number}" * 100)
    os.link(played.volume / "file-1", played.volume / "again-1")
    wait_until_settled(played.volume)
    played.backs_up()
    (played.volume / "file-1").write_text("changed")
    (played.volume / "new").write_text("new")
    yield played
    assert nothing_is_left(tmp_path)


def killed_after(pair: PlayedPair, number: int, signum: int) -> list[str]:
    """Start a run and kill it right after its journal's event `number`; the names of the events it came to."""
    journal = pair.folder / "state-www4/journal"
    journal.unlink(missing_ok=True)
    os.mkfifo(journal)
    run = subprocess.Popen(
        pair.command("www4", "run"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lines = []
    with journal.open() as events:
        for line in events:
            lines.append(line)
            if len(lines) == number:
                run.send_signal(signum)
                break
        if signum != signal.SIGKILL:
            lines += events.readlines()
    run.wait(PATIENCE)
    journal.unlink()
    journal.write_text("".join(lines))
    return [str(json.loads(line)["event"]) for line in lines]


@pytest.mark.parametrize(("pair", "signum", "number"), CASES, indirect=["pair"])
def test_a_run_killed_after_any_event_loses_nothing(pair: PlayedPair, number: int, signum: signal.Signals) -> None:
    before = {copy["snapshot"] for copy in pair.copies()}
    events = killed_after(pair, number, signum)
    assert len(events) >= number, "the run has fewer events than this test thinks"
    assert mount_points(pair.folder) == []
    for copy in pair.copies():
        assert copy["snapshot"] in before or "published" in events
    assert pair.run("www4", "verify").returncode == 0
    pair.backs_up()
    assert differences(pair.volume, pair.newest("nas")) == []
    assert [name for name in os.listdir(pair.folder / "nas/drbdbackup/raid") if name.startswith(".")] == []
    newest = pair.copies(target="disk")[0]
    restored = pair.folder / "restored"
    assert pair.run("www4", "restore", "--from", "disk", "--to", str(restored), "--yes").returncode == 0
    assert differences(pair.volume, restored) == []
    assert newest["sequence"] == pair.copies(target="nas")[0]["sequence"]
    assert os.listdir(pair.folder / "state-www4/spool") == []


def test_a_killed_run_is_known_as_interrupted(pair: PlayedPair) -> None:
    killed_after(pair, 4, signal.SIGKILL)
    pair.backs_up()
    with sqlite3.connect(pair.folder / "state-www4/catalog.db") as catalog:
        query = "SELECT json_extract(body, '$.outcome') FROM fact WHERE kind = 'run' ORDER BY at, rowid"
        assert [row[0] for row in catalog.execute(query)] == ["complete", "interrupted", "complete"]
