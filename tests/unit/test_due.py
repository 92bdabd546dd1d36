"""What counts as the backup of a night: a run of any node that tried every target."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from drbdbackup.catalog import store
from drbdbackup.catalog.bodies import Run, ran
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.due import due_since, untried
from drbdbackup.model.backup import Outcome, snapshot_name

NOW = datetime(2026, 11, 23, 6, 2, tzinfo=UTC)
EVERY_HOUR = "0 * * * *"
WELL = {"outcome": "complete"}
AWAY = {"outcome": "failed", "message": "not mounted"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    targets = tuple(TargetConfig(name=name, kind="nas", path=f"/{name}") for name in ("nas", "disk"))
    resource = ResourceConfig(name="raid", source="/srv/raid")
    return Config(
        file="", node="www4", nodes=("www4", "www5"), resources=(resource,), targets=targets, schedule=EVERY_HOUR,
        state_dir=str(tmp_path),
    )


def ended(config: Config, minutes_ago: float, outcome: Outcome, **targets: Mapping[str, str]) -> None:
    at = NOW - timedelta(minutes=minutes_ago)
    run = Run(
        name=snapshot_name(at, "www5"), resource="raid", node="www5", outcome=outcome, started_at=at, finished_at=at,
        targets=tuple(targets.items()),
    )
    store.record(config.state_dir, "www5", [ran(run)])


def test_a_run_on_every_target_meets_it(config: Config) -> None:
    ended(config, 1, Outcome.COMPLETE, nas=WELL, disk=WELL)
    assert due_since(config, "raid", NOW) is None


def test_a_run_on_one_target_does_not_meet_it_for_the_other(config: Config) -> None:
    ended(config, 1, Outcome.COMPLETE, nas=WELL)
    assert due_since(config, "raid", NOW) == NOW - timedelta(minutes=2)
    assert due_since(config, "raid", NOW, config.targets[:1]) is None
    assert untried(config, "raid", NOW, NOW - timedelta(minutes=2)) == ("disk",)
    assert untried(config, "raid", NOW, NOW) == (), "nothing is there since then"


def test_a_full_run_with_a_broken_target_meets_it(config: Config) -> None:
    ended(config, 1, Outcome.PARTIAL, nas=WELL, disk=AWAY)
    assert due_since(config, "raid", NOW) is None


@pytest.mark.parametrize("outcome", [
    Outcome.FAILED, Outcome.INTERRUPTED, Outcome.REFUSED, Outcome.STOOD_DOWN,
])  # fmt: skip
def test_a_run_that_made_nothing_does_not_meet_it(config: Config, outcome: Outcome) -> None:
    ended(config, 1, outcome, nas=AWAY, disk=AWAY)
    assert due_since(config, "raid", NOW) is not None


def test_one_from_before_or_from_the_future_does_not_meet_it(config: Config) -> None:
    ended(config, 3, Outcome.COMPLETE, nas=WELL, disk=WELL)
    ended(config, -60, Outcome.COMPLETE, nas=WELL, disk=WELL)
    assert due_since(config, "raid", NOW) is not None


def test_it_is_found_behind_many_that_do_not_count(config: Config) -> None:
    ended(config, 1.9, Outcome.COMPLETE, nas=WELL, disk=WELL)
    for number in range(150):
        ended(config, 1 - number / 300, Outcome.COMPLETE, nas=WELL)
    assert due_since(config, "raid", NOW) is None
