"""What a compromised peer says of its work and of pins is shown as text, and costs no command minutes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drbdbackup.catalog import pins, store
from drbdbackup.catalog.facts import Fact, fact
from drbdbackup.catalog.history import Activity, TaskKind, task
from drbdbackup.model.backup import Outcome, snapshot_name
from tests.played_pair import PlayedPair

EVIL = "\x1b]0;evil\x07\x1b[2J\r| x=1;2\nOK - all is well"
MANY = 10_000


@pytest.fixture
def pair(tmp_path: Path) -> PlayedPair:
    """Both nodes know each other's keys and facts."""
    played = PlayedPair(tmp_path)
    (played.volume / "index.php").write_text("<?php phpinfo();")
    for node in ("www4", "www5"):
        played.roles(node)
        played.backs_up(node)
    played.roles("www4")
    assert played.run("www4", "sync").returncode == 0
    return played


def says(pair: PlayedPair, *facts: Fact) -> None:
    store.record(str(pair.folder / "state-www5"), "www5", list(facts))
    assert pair.run("www5", "sync").returncode == 0
    assert pair.run("www4", "sync").returncode == 0


def work(number: int, because: str = "") -> Activity:
    at = datetime.now(UTC) - timedelta(seconds=number)
    return Activity(
        name=snapshot_name(at, "www5", number % 900 + 1), what=TaskKind.VERIFY, resource="raid", node="www5",
        outcome=Outcome.FAILED, started_at=at - timedelta(days=300), finished_at=at, because=(because,), snapshot=EVIL,
        place=EVIL,
    )  # fmt: skip


def test_what_it_says_reaches_a_terminal_as_text(pair: PlayedPair) -> None:
    newest = pair.copies()[0]["snapshot"]
    long = [task(work(number, "x" * 250_000)) for number in range(2, 22)]
    says(pair, task(work(1, EVIL)), *long, pins.pinned("www5", datetime.now(UTC), "raid", newest, EVIL))
    for words in (["runs"], ["list"], ["latest"], ["status"], ["check"], ["runs", "show", work(1).name[:9]]):
        ended = pair.run("www4", *words)
        assert not {"\x1b", "\x07", "\r"} & {*ended.stdout, *ended.stderr}, words
        assert not any(line.startswith("OK - all") for line in ended.stdout.splitlines()), words
    assert len(pair.run("www4", "runs", "--json").stdout) < 200_000, "20 of them with 250,000 letters each"


def test_a_flood_of_work_costs_no_command_minutes(pair: PlayedPair) -> None:
    now = datetime.now(UTC)
    name = snapshot_name(now, "www5")
    gone = [
        fact("www5", now - timedelta(seconds=number), "pruned", "raid", f"{number:032x}/{name}", {})
        for number in range(MANY)
    ]
    says(pair, *(task(work(number)) for number in range(MANY)), *gone)
    begun = time.monotonic()
    assert pair.run("www4", "runs", "--since", "2020-01-01").returncode == 0
    assert time.monotonic() - begun < 15  # each with each took a minute
