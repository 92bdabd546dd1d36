"""What is unfinished on a target goes only when nobody can be at work on it."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from drbdbackup.catalog import bodies, store
from drbdbackup.catalog.bodies import Run
from drbdbackup.catalog.signatures import OwnKey
from drbdbackup.config.values import Config, Limits
from drbdbackup.manifest import Writer, split
from drbdbackup.model.backup import Outcome, snapshot_name
from drbdbackup.pipeline.cage.node_facts import known_to_be_over
from drbdbackup.pipeline.cage.protocol import EndedRuns
from drbdbackup.pipeline.snapshot.checkpoints import MOST_ENTRIES, Checkpoints
from drbdbackup.pipeline.snapshot.copy_protocol import TargetFacts
from drbdbackup.pipeline.snapshot.link_sources import left_behind, newest_base, signed, until_torn
from drbdbackup.pipeline.target import unfinished_snapshots
from drbdbackup.pipeline.target.target_protocol import Removal
from drbdbackup.targets.sidecar import Sidecar

OVER = EndedRuns(("web", "web-2"), ("20261123T043000Z-web-2",), "20261122T000000Z-")
OURS = Removal("web", "raid", OVER)
_PRIVATE = Ed25519PrivateKey.generate()
KEY = OwnKey("www4", _PRIVATE.private_bytes_raw().hex(), _PRIVATE.public_key().public_bytes_raw().hex())
KEYS = {"www4": KEY.public}
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
    assert unfinished_snapshots.is_over(name, OURS) is over


def test_a_run_that_said_how_it_ended_is_over(tmp_path: Path) -> None:
    config = Config(
        file="",
        node="www4",
        nodes=("www4", "www5"),
        resources=(),
        targets=(),
        state_dir=str(tmp_path),
        limits=Limits(run=7200.0),
    )
    now = datetime.now(UTC)
    for age in (timedelta(minutes=5), timedelta(days=9)):
        name = snapshot_name(now - age, "www5")
        ended = Run(
            name=name,
            resource="raid",
            node="www5",
            outcome=Outcome.INTERRUPTED,
            started_at=now - age,
            finished_at=now - age,
            snapshot=name,
        )
        store.record(str(tmp_path), "www5", [bodies.ran(ended)])
    told = known_to_be_over(config)
    assert told.runs == (snapshot_name(now - timedelta(minutes=5), "www5"),)
    ours = Removal("www4", "raid", told)
    for age, over in ((timedelta(hours=25), False), (timedelta(hours=27), True)):
        assert unfinished_snapshots.is_over(snapshot_name(now - age, "www5"), ours) is over


@pytest.mark.parametrize("torn", [b"0123 s - f 644 0", b"\0" * len(LINE), LINE.replace(b"a\n", b"\0\n"), b"0 s - x\n"])
def test_lines_count_up_to_the_first_that_is_torn(tmp_path: Path, torn: bytes) -> None:
    """The chunk that is torn, and what comes after it, count for nothing."""
    (tmp_path / "lines").write_bytes(signed(LINE * 2, KEY) + LINE + torn + signed(LINE, KEY))
    with (tmp_path / "lines").open("rb") as file:
        assert list(until_torn(file, KEYS)) == [LINE] * 2


@pytest.mark.parametrize("keys", [{}, {"www5": KEY.public}, {"www4": "4f" * 32}])
def test_what_no_node_has_signed_counts_for_nothing(tmp_path: Path, keys: dict[str, str]) -> None:
    for lines in (signed(LINE, KEY), LINE, LINE + b"signed\n", LINE + b"signed www4 4f\n"):
        (tmp_path / "lines").write_bytes(lines)
        with (tmp_path / "lines").open("rb") as file:
            assert list(until_torn(file, keys)) == []
    (tmp_path / "lines").write_bytes(signed(LINE, KEY).replace(b"0123 s", b"0124 s"))
    with (tmp_path / "lines").open("rb") as file:
        assert list(until_torn(file, KEYS)) == []


def test_what_is_added_meanwhile_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(signed(LINE, KEY) + LINE[:9])
    with (tmp_path / "lines").open("rb", buffering=0) as raw, io.BufferedReader(raw, 16) as file:
        found = until_torn(file, KEYS)
        assert next(found) == LINE
        with (tmp_path / "lines").open("ab") as more:
            more.write(signed(LINE, KEY)[9:])
            os.fsync(more.fileno())
        assert list(found) == []


def test_what_a_crash_can_cost_is_a_share_of_what_was_done_and_never_more_than_a_chunk() -> None:
    pace, done, worst = Checkpoints(is_steady=False), 0, 0.0
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
    pace = Checkpoints(is_steady=True)
    assert not pace.is_due(5000, 100 << 20)
    pace._last -= 5
    assert pace.is_due(1, 1)
    pace.kept(1, 1)
    assert not pace.is_due(1, 1)
    assert pace.is_due(MOST_ENTRIES, 1)


def published(root: Path, name: str, line: bytes) -> Sidecar:
    """A snapshot with one line in its manifest, which is what its record says."""
    folder = root / "drbdbackup/raid" / name
    (folder / "data").mkdir(parents=True)
    writer = Writer(str(folder / "manifest.gz"))
    writer.add_line(line)
    writer.close()
    now = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
    return Sidecar(
        snapshot=name,
        resource="raid",
        sequence=1,
        node="www4",
        started_at=now,
        finished_at=now,
        manifest_sha256=writer.sha256,
    )


@pytest.mark.parametrize(
    "line", [b"short\n", b"x" * (2 << 20), LINE.replace(b" a\n", b" ../a\n"), LINE.replace(b"5", b"-5")]
)
def test_a_manifest_that_no_node_vouches_for_is_read_through_before_it_is_used(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "scratch").mkdir()
    good = published(tmp_path, "20261123T043000Z-www4", LINE)
    bad = published(tmp_path, "20261124T043000Z-www4", line)
    about = TargetFacts(
        expected=None, damaged=frozenset(), verified=frozenset(), manifests={good.snapshot: "", bad.snapshot: ""},
        sidecars={}, keys=KEYS, nodes=("www4",), ours=(), over=OVER, incoming="", known_files={},
    )  # fmt: skip
    with ExitStack() as stack:
        found = newest_base(str(tmp_path), (good, bad), about, {}, stack, str(tmp_path / "scratch"))
        assert found is not None
        assert found.data == str(tmp_path / "drbdbackup/raid" / good.snapshot / "data")


def test_the_manifest_of_a_whole_copy_cannot_be_swapped_once_its_signature_was_seen(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    hashes = (os.urandom(16).hex().encode() for _ in range(20_000))
    lines = [LINE.replace(b"0123", one).replace(b" a\n", b" %06d\n" % number) for number, one in enumerate(hashes)]
    left = tmp_path / "drbdbackup/raid/.partial-20261124T043000Z-www4"
    (left / "data").mkdir(parents=True)
    (left / "abilities.json").write_text("{}")
    writer = Writer(str(left / "manifest.gz"))
    for line in lines:
        writer.add_line(line)
    writer.close()
    (left / "whole").write_bytes(signed(f"whole {writer.sha256}\n".encode(), KEY))
    about = TargetFacts(
        expected=None, damaged=frozenset(), verified=frozenset(), manifests={}, sidecars={}, keys=KEYS,
        nodes=("www4",), ours=(), over=OVER, incoming="", known_files={},
    )  # fmt: skip
    with ExitStack() as stack:
        [base] = left_behind(str(tmp_path), "raid", "", {}, stack, about, str(tmp_path / "scratch"))
        os.truncate(left / "manifest.gz", 0)
        assert base.unchanged(split(lines[-1])[1]) == split(lines[-1])[0]
