"""What would be lost with the volume, and what would be left to bring back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.catalog.rates import Measured, Work
from drbdbackup.commands.exposure import Exposure, LineageExposure
from drbdbackup.exposure import Known, Left, LossKind, Without, left
from drbdbackup.model.backup import Copy, Reach, snapshot_name
from drbdbackup.report import exposure as report

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
NOTHING, HERE, PEER = Without(LossKind.NOTHING), Without(LossKind.NODE, "www4"), Without(LossKind.NODE, "www5")
NAS, DISK = Without(LossKind.TARGET, "nas"), Without(LossKind.TARGET, "disk", "www4")


def a_copy(sequence: int, hours: float, target: str = "nas", holder: str = "", **more: object) -> Copy:
    """Begun so many hours ago."""
    at, medium = NOW - hours * HOUR, f"{target}-{holder}"
    values = {
        "snapshot": snapshot_name(at, "www4"), "resource": "raid", "sequence": sequence, "node": "www4",
        "target": target, "kind": "disk" if holder else "nas", "medium": medium, "location": medium, "holder": holder,
        "path": "/x", "started_at": at, "finished_at": at, "files": 1000, "bytes": 1 << 30,
    }  # fmt: skip
    return Copy(**{**values, **more})  # type: ignore[arg-type]


def known(*copies: Copy, reach: Reach = Reach.YES, measured: tuple[Measured, ...] = ()) -> Known:
    newest_first = sorted(copies, key=lambda copy: -copy.sequence)
    return Known("www4", NOW, [(copy, reach) for copy in newest_first], measured)


def took(seconds: float, work: Work = Work.RESTORED, medium: str = "nas-", **more: object) -> Measured:
    values = {"node": "www4", "at": NOW, "files": 1000, "bytes": 1 << 30}
    return Measured(work=work, medium=medium, seconds=seconds, **{**values, **more})  # type: ignore[arg-type]


TWO = (a_copy(2, 13, "disk", "www4"), a_copy(2, 13, "nas"), a_copy(1, 37, "disk", "www5"))


@pytest.mark.parametrize(("without", "hours", "target", "holder"), [
    (NOTHING, 13, "disk", "www4"), (HERE, 13, "nas", ""), (PEER, 13, "disk", "www4"), (NAS, 13, "disk", "www4"),
    (DISK, 13, "nas", ""),
])  # fmt: skip
def test_the_nearest_copy_of_the_newest_snapshot_is_left(
    without: Without, hours: int, target: str, holder: str
) -> None:
    found = left(known(*TWO), without)
    assert found.copy is not None
    assert (found.lost, found.copy.target, found.copy.holder) == (hours * HOUR, target, holder)


def test_without_this_node_and_a_nas_the_peers_disk_has_what_it_has() -> None:
    found = left(known(TWO[0], TWO[2]), HERE)
    assert (found.lost, found.copy) == (37 * HOUR, TWO[2])


def test_nothing_is_left_where_all_lay_on_one_node() -> None:
    assert left(known(TWO[0]), HERE) == Left(HERE)
    assert left(known(), NOTHING) == Left(NOTHING)


def test_what_is_damaged_or_lacks_files_does_not_count() -> None:
    torn, lacking, old = a_copy(4, 1, damaged_at=NOW), a_copy(3, 2, problems=7), a_copy(2, 30)
    found = left(known(torn, lacking, old), NOTHING)
    assert (found.copy, found.lost, found.lacking) == (old, 30 * HOUR, lacking)
    assert left(known(lacking), NOTHING) == Left(NOTHING, lacking=lacking)


def test_what_can_be_read_goes_before_what_is_near() -> None:
    near, far = TWO[:2]
    found = left(Known("www4", NOW, [(near, Reach.NO), (far, Reach.YES)]), NOTHING)
    assert (found.copy, found.reach) == (far, Reach.YES)
    assert left(Known("www4", NOW, [(far, Reach.UNKNOWN), (near, Reach.NO)]), NOTHING).copy == near


def test_what_the_others_see_of_a_share_is_not_known_here() -> None:
    assert left(known(TWO[1]), HERE).reach is Reach.UNKNOWN
    assert left(known(TWO[2]), HERE).reach is Reach.YES
    assert left(known(TWO[1]), PEER).reach is Reach.YES


def test_a_clock_that_was_ahead_makes_no_loss_smaller() -> None:
    """The later one says that the earlier was begun before it, whatever the earlier one says."""
    ahead, later = a_copy(1, 1, "nas"), a_copy(2, 5, "disk", "www4")
    assert left(known(ahead, later), DISK).lost == 5 * HOUR
    assert left(known(a_copy(1, -3)), NOTHING).lost == timedelta(0)


def test_a_time_is_told_only_where_one_was_measured() -> None:
    assert left(known(*TWO), HERE).estimate is None
    found = left(known(*TWO, measured=(took(600),)), HERE).estimate
    assert found is not None
    assert found.seconds == 600
    assert left(known(*TWO, measured=(took(600),)), NOTHING).estimate is None, "the disk is another medium"


def test_it_grows_with_the_files_or_the_bytes_whichever_says_more() -> None:
    half = took(100, bytes=1 << 29)
    assert half.estimate(TWO[1]) == 200
    assert replace(half, files=100).estimate(TWO[1]) == 1000
    assert replace(half, files=2000, bytes=1 << 31).estimate(TWO[1]) == 50
    assert replace(half, bytes=1 << 20).estimate(TWO[1]) is None, "a thousandth says nothing about it all"


def test_a_restore_says_more_than_a_verify_and_that_more_than_the_making() -> None:
    made, read, back = took(1, Work.COPIED), took(2, Work.VERIFIED), took(3, at=NOW - 900 * HOUR)
    for measured, seconds in (((made, read, back), 3), ((made, read), 2), ((made,), 1)):
        found = left(known(*TWO, measured=measured), HERE).estimate
        assert found is not None
        assert found.seconds == seconds
    newest = left(known(*TWO, measured=(took(5), took(6))), HERE).estimate
    assert newest is not None
    assert newest.seconds == 5


def test_over_ssh_is_another_way_than_on_the_spot() -> None:
    there = took(60, medium="disk-www5")
    assert left(known(TWO[2], measured=(there,)), NOTHING).estimate is None
    over_ssh = left(known(TWO[2], measured=(there, replace(there, seconds=90.0, over_ssh=True))), NOTHING).estimate
    assert over_ssh is not None
    assert over_ssh.seconds == 90
    on_the_spot = left(known(TWO[2], measured=(replace(there, seconds=90.0, over_ssh=True), there)), HERE).estimate
    assert on_the_spot is not None
    assert on_the_spot.seconds == 60


@pytest.mark.parametrize(("copies", "sentence"), [
    (TWO, "you lose the last 13 h, whichever node or target is lost with it"),
    ((TWO[0], TWO[2]), "you lose the last 13 h; with www4 (this node) 37 h, with disk (www4's) 37 h"),
    (TWO[1:2], "you lose the last 13 h; with nas EVERYTHING"),
    ((), "you lose EVERYTHING"),
])  # fmt: skip
def test_one_sentence_says_what_is_lost_and_with_what_it_is_more(copies: tuple[Copy, ...], sentence: str) -> None:
    cases = tuple(left(known(*copies), without) for without in (NOTHING, HERE, PEER, NAS, DISK))
    found = Exposure(
        resource="raid", node="www4", lines=(LineageExposure(None, cases),), roadless=(), closed={}, missing=None
    )
    assert next(report.lines(found)) == f"raid: if the volume is lost now, {sentence}"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_screen_fits_the_terminal_and_no_restore_takes_no_time(width: int) -> None:
    cases = tuple(left(known(*TWO, measured=(took(0.1),)), one) for one in (NOTHING, HERE, PEER, NAS, DISK))
    closed = {"www5": "ssh: connect to host 192.168.12.4 port 22: No route to host, " * 3}
    found = Exposure(
        resource="raid", node="www4", lines=(LineageExposure(None, cases),), roadless=("www6",), closed=closed,
        missing=None,
    )  # fmt: skip
    shown = list(report.lines(found, width))
    assert max(map(len, shown)) <= width
    assert "13 h" in "".join(shown)
    assert " 0 s" not in " ".join(shown)
