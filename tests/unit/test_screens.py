"""What is known, as it is shown on terminals of several widths: golden files in tests/unit/screens.

`DRBDBACKUP_NEW_SCREENS=1` writes them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from drbdbackup.catalog.history import Activity, PrunedCopy, TaskKind
from drbdbackup.commands.latest import Latest
from drbdbackup.commands.list_copies import Listed
from drbdbackup.commands.runs import Runs
from drbdbackup.model.backup import Copy, Outcome, Reach, snapshot_name
from drbdbackup.pipeline.copies.known_copies import Heard, KnownCopy
from drbdbackup.report import history, overview

SCREENS = Path(__file__).parent / "screens"
NOW = datetime(2026, 11, 28, 13, 58, 55, tzinfo=UTC)
WIDTHS = [None, 120, 80, 60]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def copy(sequence: int, target: str, holder: str = "", reach: Reach = Reach.YES, **more: object) -> KnownCopy:
    made = NOW - timedelta(days=9 - sequence, hours=9, minutes=28)
    node = "www4" if sequence % 2 else "www5"
    known = Copy(
        snapshot=snapshot_name(made, node), resource="raid", sequence=sequence, node=node, target=target,
        kind="disk" if holder else "nas", medium=f"{target}{holder}",
        location=f"{holder}:/dev/sdb1" if holder else "nas:/backup", holder=holder, path=f"/saving/{sequence}/data",
        started_at=made, finished_at=made, files=48_112, bytes=23 << 30, manifest_sha256="0" * 64,
    )  # fmt: skip
    return KnownCopy(replace(known, **more), reach)


SNAPSHOTS = (
    (copy(9, "nas"), copy(9, "disk", "www4")),
    (
        copy(8, "nas", verified_at=NOW - timedelta(hours=3)), copy(8, "disk", "www4", damaged_at=NOW),
        copy(8, "disk", "www5", Reach.NO),
    ),
    (
        copy(7, "nas", pinned_at=NOW, note="before the upgrade to Debian 13"),
        copy(7, "disk", "www5", Reach.UNKNOWN, manifest_sha256="", problems=12, pinned_at=NOW,
             note="before the upgrade to Debian 13"),
    ),
    (copy(6, "disk", "www4", purpose="safety"),),
)  # fmt: skip
LISTED = Listed(SNAPSHOTS, more=31)
HEARD = (
    Heard("www4", NOW, "local"), Heard("www5", NOW - timedelta(minutes=3), "nas"), Heard("www6", None, ""),
)  # fmt: skip
LATEST = Latest(
    "raid", LISTED.copies, HEARD, {"www6": "ssh: connect to host 192.168.12.4 port 22: No route to host"},
    choice=LISTED.copies,
)  # fmt: skip


def is_golden(name: str, lines: Iterable[str]) -> None:
    shown = "".join(line + "\n" for line in lines)
    file = SCREENS / f"{name}.txt"
    if os.environ.get("DRBDBACKUP_NEW_SCREENS"):
        SCREENS.mkdir(exist_ok=True)
        file.write_text(shown)
    assert shown == file.read_text()


def words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in line.split()}


@pytest.mark.parametrize("width", WIDTHS)
def test_list(width: int | None) -> None:
    is_golden(f"list-{width or 'pipe'}", overview.snapshots(LISTED, width, NOW))


@pytest.mark.parametrize("width", WIDTHS)
def test_list_of_copies(width: int | None) -> None:
    is_golden(f"list-copies-{width or 'pipe'}", overview.copies(LISTED, width, NOW))


@pytest.mark.parametrize("width", WIDTHS)
def test_latest(width: int | None) -> None:
    is_golden(f"latest-{width or 'pipe'}", overview.latest([LATEST], width, NOW))


@pytest.mark.parametrize("width", [80, 70, 60])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(width: int) -> None:
    whole = words([*overview.snapshots(LISTED, None, NOW), *overview.latest([LATEST], None, NOW)])
    shown = [*overview.snapshots(LISTED, width, NOW), *overview.latest([LATEST], width, NOW)]
    assert [line for line in shown if len(line) > width] == []
    assert words(shown) <= whole


def test_of_several_resources_each_row_says_whose_it_is_and_the_nodes_come_once() -> None:
    mail = tuple(KnownCopy(replace(one.copy, resource="mail"), one.reach) for one in SNAPSHOTS[0])
    rows = list(overview.snapshots(Listed((SNAPSHOTS[0], mail)), 80, NOW))
    assert [row.split()[0] for row in rows if not row.startswith(" ")] == ["RESOURCE", "raid", "mail"]
    shown = list(overview.latest([LATEST, replace(LATEST, resource="mail")], 80, NOW))
    assert shown.count("What is known of each node:") == shown.count("Not read:") == 1


def activity(hours: int, outcome: Outcome, node: str = "www4", took: int = 0, **more: object) -> Activity:
    began = NOW - timedelta(hours=hours)
    done = Activity(
        name=snapshot_name(began, node), what=TaskKind.RUN, resource="raid", node=node, outcome=outcome,
        started_at=began, finished_at=began + timedelta(seconds=took),
    )  # fmt: skip
    return replace(done, **more)


FAILED_NAS = {"outcome": "failed", "message": "nothing is mounted at /backup", "hint": "Mount it: `mount /backup`"}
WELL = {"outcome": "complete", "message": "", "hint": ""}
PARTIAL = activity(
    9, Outcome.PARTIAL, took=734, snapshot=snapshot_name(NOW - timedelta(hours=9), "www4"), files=1204, bytes=3 << 30,
    because=("raid is Primary here", "the peer www5 is not connected, so the backup is the only second copy"),
    targets=(("nas", FAILED_NAS), ("disk", WELL)), due_at=NOW - timedelta(hours=9, minutes=1),
    pruned=(PrunedCopy("20261109T043000Z-www4", "disk", "no rule keeps it"),),
)  # fmt: skip
DONE = (
    activity(3, Outcome.FAILED, "www5", 5025, what=TaskKind.VERIFY, place="nas:/backup", files=48_000, bytes=22 << 30,
             because=("20261127T043055Z-www5 at nas:/backup: damaged or added to (2 problems)",)),
    activity(8, Outcome.COMPLETE, "www5", 63, what=TaskKind.REPLICATE, place="www5:/dev/sdb1", bytes=12 << 20),
    PARTIAL,
    activity(10, Outcome.STOOD_DOWN, "www5", because=("raid is Secondary here", "the peer www4 is Primary")),
    activity(33, Outcome.COMPLETE, took=300, targets=(("nas", WELL), ("disk", WELL)), bytes=40 << 20,
             because=("raid is Primary here",)),
)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_runs(width: int | None) -> None:
    is_golden(f"runs-{width or 'pipe'}", history.table(Runs(DONE, 7, {}), width))


@pytest.mark.parametrize("width", [None, 60])
def test_one_of_the_runs(width: int | None) -> None:
    is_golden(f"runs-show-{width or 'pipe'}", history.one(PARTIAL, width, NOW))
