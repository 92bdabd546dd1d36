"""What counts as the backup of a night: a run of any node that tried every target."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from drbdbackup import schedule
from drbdbackup.catalog import store
from drbdbackup.catalog.bodies import EndedTarget, Run, copied, ran
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.due import due, due_since, last_due, next_due, own_schedules, taking_part, untried
from drbdbackup.model.backup import Copy, Outcome, snapshot_name

NOW = datetime(2026, 11, 23, 6, 2, tzinfo=UTC)
EVERY_HOUR = "0 * * * *"
WELL = EndedTarget(outcome="complete")
AWAY = EndedTarget(outcome="failed", message="not mounted")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    targets = tuple(TargetConfig(name=name, kind="nas", path=f"/{name}") for name in ("nas", "disk"))
    resource = ResourceConfig(name="raid", source="/srv/raid")
    return Config(
        file="", node="www4", nodes=("www4", "www5"), resources=(resource,), targets=targets, schedule=EVERY_HOUR,
        state_dir=str(tmp_path),
    )


def ended(config: Config, minutes_ago: float, outcome: Outcome, **targets: EndedTarget) -> None:
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
    found = due(config, "raid", NOW)
    assert untried(config, "raid", NOW, found) == ("disk",)
    assert untried(config, "raid", NOW, replace(found, since=NOW)) == (), "nothing is there since then"


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


def in_utc(expression: str) -> datetime | None:
    return schedule.last_due(expression, NOW, ZoneInfo("UTC"))


def test_due_times_are_remembered_for_now_and_for_the_end_of_the_grace(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = Path(config.state_dir) / "due.json"

    def asked() -> tuple[datetime | None, ...]:
        earlier = NOW - timedelta(hours=6)
        return last_due(config, NOW), last_due(config, earlier), next_due(config, NOW), due_since(config, "raid", NOW)

    first, written = asked(), remembered.read_bytes()
    assert first == tuple(NOW + timedelta(minutes=minutes) for minutes in (-2, -362, 58, -2))
    remembered.write_bytes(written.replace(b"T06:00", b"T06:01"))
    assert asked() == tuple(NOW + timedelta(minutes=minutes) for minutes in (-1, -362, 58, -1)), "all by what is there"
    assert remembered.read_bytes() == written.replace(b"T06:00", b"T06:01")
    monkeypatch.setenv("TZ", "Etc/GMT-9")
    assert asked() == first, "of another zone nothing counts"


SUNDAY = datetime(2026, 11, 22, 5, 30, tzinfo=UTC)
WEEKLY = "30 5 * * 0"


def weekly(config: Config) -> Config:
    """The disk once a week; NOW is a Monday."""
    return replace(config, targets=(config.targets[0], replace(config.targets[1], schedule=WEEKLY)))


@pytest.mark.parametrize(("newest", "served"), [
    (None, ("nas", "disk")), (timedelta(days=-1), ("nas", "disk")), (timedelta(), ("nas",)), (timedelta(1), ("nas",)),
])  # fmt: skip
def test_a_target_with_its_own_schedule_takes_part_until_it_has_its_copy(
    config: Config, newest: timedelta | None, served: tuple[str, ...]
) -> None:
    copies = {"nas": NOW, **({"disk": SUNDAY + newest} if newest is not None else {})}
    chosen = taking_part(weekly(config).targets, copies, in_utc)
    assert tuple(one.name for one in chosen) == served


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "99 5 * * 0"])
def test_one_whose_schedule_makes_no_sense_takes_part(config: Config, expression: str) -> None:
    broken = replace(config.targets[1], schedule=expression)
    assert taking_part([broken], {"disk": NOW}, in_utc) == (broken,)
    config = replace(config, targets=(config.targets[0], broken))
    assert own_schedules(config, [], NOW) == ()
    found = due(config, "raid", NOW)
    assert found.since is not None
    assert found.targets == config.targets, "the others have their backup, and it too"


def made(config: Config, at: datetime, target: str) -> Copy:
    """A copy that the other node has made there."""
    copy = Copy(
        snapshot=snapshot_name(at, "www5"), resource="raid", sequence=1, node="www5", target=target, kind="nas",
        medium=f"{target}-1", location=f"{target}:/{target}", holder="", path="/x", started_at=at, finished_at=at,
        files=1, bytes=1, manifest_sha256="0" * 64, sidecar_sha256="0" * 64,
    )  # fmt: skip
    store.record(config.state_dir, "www5", [copied("www5", at, copy)])
    return copy


def test_its_time_comes_once_whatever_becomes_of_that_run(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    config = weekly(config)
    ended(config, 1, Outcome.COMPLETE, nas=WELL)
    found = due(config, "raid", NOW)
    assert (found.since, [one.name for one in found.targets]) == (SUNDAY, ["disk"])
    assert untried(config, "raid", NOW, found) == ("disk",)
    assert due(config, "raid", NOW, config.targets[:1]).targets == ()
    ended(config, 0.5, Outcome.FAILED, disk=AWAY)
    assert due(config, "raid", NOW).targets == (), "not every quarter of an hour"
    later = NOW + timedelta(hours=1)
    assert [one.name for one in due(config, "raid", later).targets] == ["nas", "disk"], "with the next run"
    made(config, NOW - timedelta(minutes=3), "disk")
    found = due(config, "raid", later)
    assert [one.name for one in found.targets] == ["nas"], "the other node's copy is enough"


def test_what_is_missing_is_late_only_when_the_grace_is_over(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    config = weekly(config)
    [new] = own_schedules(config, [], NOW)
    assert (new.since, new.newest, new.next_due) == (SUNDAY, None, SUNDAY + timedelta(7))
    assert not new.is_late(NOW, 60), "nobody knows how long it has been configured"
    [old] = own_schedules(config, [made(config, SUNDAY - timedelta(7), "disk")], NOW)
    assert (old.is_late(NOW, 86400 * 2), old.is_late(NOW, 60)) == (False, True)
    [met] = own_schedules(config, [made(config, SUNDAY, "disk")], NOW)
    assert (met.since, met.is_late(NOW, 60)) == (None, False)
