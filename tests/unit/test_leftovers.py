"""What is unfinished on a target goes only when nobody can be at work on it."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drbdbackup.catalog import bodies, store
from drbdbackup.catalog.bodies import Run
from drbdbackup.config.values import Config, Limits
from drbdbackup.model.backup import Outcome, snapshot_name
from drbdbackup.pipeline import leftovers
from drbdbackup.pipeline.bases import until_torn
from drbdbackup.pipeline.pace import MOST_ENTRIES, Pace

OVER = {"nodes": ["web", "web-2"], "runs": ["20261123T043000Z-web-2"], "before": "20261122T000000Z-"}
JOB = {"node": "web", "over": OVER}
LINE = b"0123 s - f 644 0 0 5 1 2 3 1 0 a\n"


@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("20261124T043000Z-web", True),  # our own: who asks holds the lock
        ("20261124T043000Z-web-3", True),
        ("20261124T043000Z-web-safety", True),
        ("20261124T043000Z-web-safety-2", True),
        ("20261124T043000Z-web-2-safety", False),
        ("20261124T043000Z-web-2", False),  # another node's name, and not our second
        ("20261123T043000Z-web-2", True),  # it said so
        ("20261123T043000Z-web-2-2", False),
        ("20261121T235959Z-web-2", True),  # no run lasts that long
        ("20261124T043000Z-webber", False),
        ("20261124T043000Z-mail", False),
    ],
)
def test_a_snapshot_under_way_may_go_when_its_run_is_over(name: str, over: bool) -> None:
    assert leftovers.is_over(name, JOB) is over


def test_a_run_that_said_how_it_ended_is_over(tmp_path: Path) -> None:
    config = Config("", "www4", ("www4", "www5"), (), (), state_dir=str(tmp_path), limits=Limits(run=7200.0))
    now = datetime.now(UTC)
    for age in (timedelta(minutes=5), timedelta(days=9)):
        name = snapshot_name(now - age, "www5")
        ended = Run(name, "raid", "www5", Outcome.INTERRUPTED, now - age, now - age, snapshot=name)
        store.record(str(tmp_path), "www5", [bodies.ran(ended)])
    told = leftovers.known_to_be_over(config)
    assert told["runs"] == [snapshot_name(now - timedelta(minutes=5), "www5")]
    job = {"node": "www4", "over": told}
    for age, over in ((timedelta(hours=25), False), (timedelta(hours=27), True)):
        assert leftovers.is_over(snapshot_name(now - age, "www5"), job) is over


@pytest.mark.parametrize("torn", [b"0123 s - f 644 0", b"\0" * len(LINE), LINE.replace(b"a\n", b"\0\n"), b"0 s - x\n"])
def test_lines_count_up_to_the_first_that_is_torn(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "lines").write_bytes(LINE * 2 + torn + LINE)
    with (tmp_path / "lines").open("rb") as file:
        assert list(until_torn(file)) == [LINE] * 2


def test_what_is_added_meanwhile_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(LINE + LINE[:9])
    with (tmp_path / "lines").open("rb", buffering=0) as raw, io.BufferedReader(raw, 16) as file:
        found = until_torn(file)
        assert next(found) == LINE
        with (tmp_path / "lines").open("ab") as more:
            more.write(LINE[9:] + LINE)
            os.fsync(more.fileno())
        assert list(found) == []


def test_what_a_crash_can_cost_is_a_share_of_what_was_done_and_never_more_than_a_chunk() -> None:
    pace, done, worst = Pace(is_steady=False), 0, 0.0
    size = 1 << 20
    since = 0
    while done < 200_000:
        done, since = done + 1, since + 1
        if pace.is_due(since, since * size):
            pace.kept(since, since * size)
            since = 0
        if done > 1000:
            worst = max(worst, since / done)
        assert since <= min(MOST_ENTRIES, 1024)
    assert worst < 0.2


def test_a_steady_copy_is_written_down_by_the_clock() -> None:
    pace = Pace(is_steady=True)
    assert not pace.is_due(5000, 100 << 20)
    pace._last -= 5
    assert pace.is_due(1, 1)
    pace.kept(1, 1)
    assert not pace.is_due(1, 1)
    assert pace.is_due(MOST_ENTRIES, 1)
