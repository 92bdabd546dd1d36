"""What retention promises for every set of copies and every policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields, replace

from drbdbackup.config.values import Retention
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.retention import plan

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")

COUNTS = st.integers(0, 6)
POLICIES = st.builds(
    Retention, last=COUNTS, hourly=COUNTS, daily=COUNTS, weekly=COUNTS, monthly=COUNTS, yearly=COUNTS,
    minimum=st.integers(1, 6),
)
STAMPS = st.none() | st.just(NOW)


def made(
    sequence: int, minutes_ago: int, node: str, verified: datetime | None, damaged: datetime | None, problems: int = 0
) -> Copy:
    started = NOW - timedelta(minutes=minutes_ago)
    return Copy(
        snapshot=f"{snapshot_name(started, node)}-{sequence}", resource="raid", sequence=sequence, node=node,
        target="nas", kind="nas", medium="m", location="nas:/backup", holder="", path="/backup",
        started_at=started, finished_at=started, files=1, bytes=1, problems=problems,
        verified_at=verified, damaged_at=damaged,
    )


def copies_of(nodes: st.SearchStrategy[str]) -> st.SearchStrategy[list[Copy]]:
    """Copies of two years, some from the future; clocks differ, and nodes that lost sight of each other repeat."""
    ago = st.one_of(st.integers(-3000, 3000), st.integers(-3000, 2 * 365 * 24 * 60))
    one = st.builds(made, st.integers(1, 40), ago, nodes, STAMPS, STAMPS, st.integers(0, 1))
    return st.lists(one, max_size=30, unique_by=lambda copy: copy.snapshot)


COPIES = copies_of(st.sampled_from(["www4", "www5"]))


def kept(copies: list[Copy], policy: Retention) -> set[str]:
    return {judged.copy.snapshot for judged in plan(copies, policy, NOW, BERLIN) if judged.keep}


def good(copies: list[Copy]) -> list[Copy]:
    return [copy for copy in copies if copy.damaged_at is None]


@given(COPIES, POLICIES)
def test_every_copy_is_judged_once_and_with_a_reason(copies, policy):
    judged = plan(copies, policy, NOW, BERLIN)
    assert sorted(one.copy.snapshot for one in judged) == sorted(copy.snapshot for copy in copies)
    assert all(one.reason for one in judged)
    assert [one.copy.sequence for one in judged] == sorted((copy.sequence for copy in copies), reverse=True)


@given(COPIES, POLICIES)
def test_it_never_empties_a_target_and_keeps_the_newest(copies, policy):
    stay = kept(copies, policy)
    assert bool(stay) == bool(copies)
    if copies:
        assert max(copy.sequence for copy in copies) in {copy.sequence for copy in copies if copy.snapshot in stay}


@given(COPIES, POLICIES)
def test_the_floor_holds(copies, policy):
    stay = kept(copies, policy)
    left = [copy for copy in good(copies) if copy.snapshot in stay]
    assert len(left) >= min(policy.minimum, len(good(copies)))
    if len(good(copies)) < policy.minimum:
        assert stay == {copy.snapshot for copy in copies}


@given(COPIES, POLICIES)
def test_the_newest_verified_good_one_stays_a_whole_one_if_there_is_any(copies, policy):
    verified = [copy for copy in good(copies) if copy.verified_at and copy.started_at <= NOW]
    verified = [copy for copy in verified if not copy.problems] or verified
    if verified:
        newest = max(copy.sequence for copy in verified)
        assert newest in {copy.sequence for copy in verified if copy.snapshot in kept(copies, policy)}


@given(COPIES, POLICIES)
def test_nothing_from_the_future_goes(copies, policy):
    assert {copy.snapshot for copy in copies if copy.started_at > NOW} <= kept(copies, policy)


@given(COPIES, POLICIES)
def test_whole_copies_make_up_the_floor_before_those_where_files_are_missing(copies, policy):
    whole = [copy for copy in good(copies) if not copy.problems and copy.started_at <= NOW]
    left = [copy for copy in whole if copy.snapshot in kept(copies, policy)]
    assert len(left) >= min(policy.minimum, len(whole))


@given(COPIES, POLICIES)
def test_where_files_are_missing_a_day_is_filled_only_if_it_has_no_whole_copy(copies, policy):
    whole = [copy for copy in good(copies) if not copy.problems and copy.started_at <= NOW]
    days = {f"{copy.started_at.astimezone(BERLIN):%Y-%m-%d}" for copy in whole}
    for one in plan(copies, policy, NOW, BERLIN):
        if one.copy.problems and one.reason.startswith("daily "):
            assert one.reason.removeprefix("daily ").partition(",")[0] not in days


@given(COPIES, POLICIES)
def test_to_plan_again_over_what_stays_keeps_it_all(copies, policy):
    stay = kept(copies, policy)
    assert kept([copy for copy in copies if copy.snapshot in stay], policy) == stay


@given(COPIES, POLICIES, st.sampled_from([field.name for field in fields(Retention)]), st.integers(1, 10))
def test_a_more_generous_policy_keeps_no_less(copies, policy, key, more):
    assert kept(copies, policy) <= kept(copies, replace(policy, **{key: getattr(policy, key) + more}))


@given(COPIES, POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(copies, policy, random):
    shuffled = random.sample(copies, len(copies))
    assert plan(shuffled, policy, NOW, BERLIN) == plan(copies, policy, NOW, BERLIN)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40), POLICIES, st.data())
def test_an_alternating_primary_keeps_the_same_set_as_a_steady_one(gaps, policy, data):
    ago = [sum(gaps[number:]) for number in range(len(gaps))]
    nodes = data.draw(st.lists(st.sampled_from(["www4", "www5"]), min_size=len(ago), max_size=len(ago)))
    steady = [made(number, minutes, "www4", None, None) for number, minutes in enumerate(ago)]
    alternating = [made(number, ago[number], node, None, None) for number, node in enumerate(nodes)]
    verdicts = [
        [(judged.copy.sequence, judged.keep, judged.reason) for judged in plan(copies, policy, NOW, BERLIN)]
        for copies in (steady, alternating)
    ]
    assert verdicts[0] == verdicts[1]


@given(st.integers(1, 200), st.integers(1, 20))
def test_night_after_night_a_daily_rule_keeps_exactly_its_days(count, days):
    """Pruned after each night, as it is in life, not all at once at the end."""
    policy = Retention(daily=days, weekly=0, monthly=0, minimum=1)
    there: list[Copy] = []
    for night in range(count):
        there.append(made(night, (count - night) * 24 * 60, "www4", None, None))
        stay = kept(there, policy)
        there = [copy for copy in there if copy.snapshot in stay]
    assert [copy.sequence for copy in there] == list(range(max(0, count - days), count))
