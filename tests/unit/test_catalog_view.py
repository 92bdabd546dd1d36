from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import store, view
from drbdbackup.catalog.bodies import Run, copied, damaged, expected, found, pruned, ran, verified
from drbdbackup.catalog.facts import fact
from drbdbackup.catalog.merge import salvage
from drbdbackup.config.values import Config, ResourceConfig, TargetConfig
from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import Copy, Outcome, snapshot_name
from drbdbackup.model.medium import KnownMedium

NIGHT = datetime(2024, 11, 1, 4, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def state(tmp_path):
    return str(tmp_path / "state")


def a_copy(sequence=1, node="www4", target="nas", **more):
    at = NIGHT + sequence * DAY
    name = snapshot_name(at, node)
    values = {"medium": target, "kind": "nas", "location": target, "holder": "", "path": f"/{target}/{name}/data"}
    return Copy(
        snapshot=name, resource="raid", sequence=sequence, node=node, target=target, started_at=at,
        finished_at=at, files=1, bytes=1, **{**values, **more},
    )


def record(state, *facts):
    for said in facts:
        store.record(state, said.node, [said])


def a_run(days, outcome=Outcome.COMPLETE, node="www4"):
    at = NIGHT + days * DAY
    return ran(Run(
        name=snapshot_name(at, node), resource="raid", node=node, outcome=outcome, started_at=at,
        finished_at=at + timedelta(minutes=5),
    ))


def test_without_a_catalog_nothing_is_known_and_nothing_is_made(state):
    assert view.copies(state, "www4", "raid", ()) == []
    assert view.last_run(state, "raid", {Outcome.COMPLETE}, NIGHT) is None
    assert view.highest_sequence(state, "raid") == 0
    assert view.seen(state) == {}
    assert not os.path.exists(state)


def test_copies_come_by_sequence_then_in_the_order_of_the_configuration(state):
    made = [a_copy(n, target=target) for n in (1, 3, 2) for target in ("disk", "nas", "other")]
    record(state, *(copied("www4", NIGHT, copy) for copy in made))
    found = [(copy.sequence, copy.target) for copy in view.copies(state, "www4", "raid", ("nas", "disk"))]
    assert found == [(n, target) for n in (3, 2, 1) for target in ("nas", "disk", "other")]


def test_a_higher_sequence_is_newer_even_if_its_clock_was_behind(state):
    behind = replace(a_copy(2, "www5"), started_at=NIGHT - 9 * DAY)
    record(state, copied("www4", NIGHT, a_copy(1)), copied("www5", NIGHT, behind))
    assert [copy.sequence for copy in view.copies(state, "www4", "raid", ())] == [2, 1]


def test_no_name_is_given_twice(state):
    first, again = snapshot_name(NIGHT + DAY, "www4"), snapshot_name(NIGHT + DAY, "www4", 2)
    assert view.free_name(state, NIGHT + DAY, "www4") == first
    record(state, a_run(1))
    assert view.free_name(state, NIGHT + DAY, "www4") == again
    record(state, pruned("www4", NIGHT, replace(a_copy(1), snapshot=again), "old"))
    assert view.free_name(state, NIGHT + DAY, "www4") == snapshot_name(NIGHT + DAY, "www4", 3)
    assert view.free_name(state, NIGHT + DAY, "www5") == snapshot_name(NIGHT + DAY, "www5")


def test_a_pruned_copy_is_back_once_it_was_found_until_it_is_pruned_again(state):
    copy = a_copy(7)
    first, again = (pruned("www5", NIGHT + timedelta(hours=hours), copy, "old") for hours in (0, 1))
    record(state, copied("www4", NIGHT, copy), found("www4", NIGHT - DAY, copy, [first.id]), first)
    assert view.copies(state, "www4", "raid", ("nas",)) == [copy]
    record(state, again)
    assert view.copies(state, "www4", "raid", ("nas",)) == []
    record(state, found("www4", NIGHT - DAY, copy, [again.id, "no id"]))
    assert view.copies(state, "www4", "raid", ("nas",)) == [copy]
    with sqlite3.connect(f"{state}/catalog.db") as connection:  # an older version took those facts in
        connection.execute("UPDATE standing SET pruned = 1")
        connection.execute("PRAGMA user_version = 1")
    record(state, a_run(1))
    assert view.copies(state, "www4", "raid", ("nas",)) == [copy]


def test_a_pruned_copy_stays_pruned_and_its_sequence_is_never_given_again(state):
    copy = a_copy(9)
    record(state, pruned("www5", NIGHT, copy, "old"), copied("www4", NIGHT, copy), copied("www4", NIGHT + DAY, copy))
    assert view.copies(state, "www4", "raid", ()) == []
    assert view.highest_sequence(state, "raid") == 9
    assert len(view.known_subjects(state)) == 1


def test_a_copy_that_was_verified_says_when(state):
    copy = a_copy()
    record(state, copied("www4", NIGHT, copy), verified("www5", NIGHT + DAY, copy, 1, 1, 1.0))
    assert view.copies(state, "www4", "raid", ())[0].verified_at == NIGHT + DAY


def test_a_copy_of_which_a_part_was_read_again_is_not_verified(state):
    copy = a_copy()
    record(state, copied("www4", NIGHT, copy), verified("www5", NIGHT + DAY, copy, 1, 1, 0.05))
    assert view.copies(state, "www4", "raid", ())[0].verified_at is None
    record(state, verified("www5", NIGHT + 2 * DAY, copy, 1, 1, 1.0))
    record(state, verified("www5", NIGHT + 3 * DAY, copy, 1, 1, 0.5))
    assert view.copies(state, "www4", "raid", ())[0].verified_at == NIGHT + 2 * DAY


@pytest.mark.parametrize(
    ("share", "later", "healed"), [(1.0, 1, True), (0.5, 1, False), (1.0, -1, False), (1.0, 0, False)]
)
def test_damage_stands_until_a_later_full_verify(state, share, later, healed):
    copy = a_copy()
    record(
        state, copied("www4", NIGHT, copy), damaged("www4", NIGHT + 5 * DAY, copy, ["a"]),
        verified("www5", NIGHT + (5 + later) * DAY, copy, 1, 1, share),
    )  # fmt: skip
    found = view.copies(state, "www4", "raid", ())
    assert (found[0].damaged_at is None) is healed


def test_a_verify_from_the_future_heals_nothing(state):
    copy = a_copy()
    future = datetime.now(UTC) + 30 * DAY
    record(state, copied("www4", NIGHT, copy), damaged("www4", NIGHT, copy, []))
    record(state, verified("www5", future, copy, 1, 1, 1.0))
    assert view.copies(state, "www4", "raid", ())[0].damaged_at == NIGHT


def test_the_newest_target_is_the_one_expected_and_one_from_the_future_is_not(state):
    future = datetime.now(UTC) + 30 * DAY
    for at, medium in ((NIGHT, "a"), (NIGHT + DAY, "b"), (future, "c")):
        record(state, expected("www4", at, "nas", KnownMedium(medium)))
    found = view.expected_target(state, "nas")
    assert found is not None
    assert found.medium == "b"
    assert view.expected_target(state, "nas@www4") is None


def test_of_two_facts_within_a_second_the_later_counts(state):
    for moment in range(20):
        record(state, expected("www4", NIGHT + timedelta(microseconds=moment), "nas", KnownMedium(f"{moment}")))
        found = view.expected_target(state, "nas")
        assert found is not None
        assert found.medium == f"{moment}"


def test_what_is_verified_within_the_second_of_its_damage_is_well_again(state):
    copy, soon = a_copy(), NIGHT + timedelta(milliseconds=200)
    record(state, copied("www4", NIGHT, copy), damaged("www4", NIGHT, copy, []))
    record(state, verified("www4", soon, copy, 1, 1, 1.0))
    assert view.copies(state, "www4", "raid", ())[0].damaged_at is None


def test_what_a_clock_far_ahead_said_is_corrected_now(state):
    record(state, expected("www5", datetime.now(UTC) + 30 * DAY, "nas", KnownMedium("b")))
    assert view.moment_to_correct(state, "nas") < datetime.now(UTC) + timedelta(minutes=1)


def test_the_last_run_is_of_any_node_and_of_an_outcome_that_counts(state):
    record(state, a_run(1), a_run(2, node="www5"), a_run(3, Outcome.STOOD_DOWN))
    found = view.last_run(state, "raid", {Outcome.COMPLETE, Outcome.PARTIAL}, NIGHT + 9 * DAY)
    assert found is not None
    assert found.node == "www5"
    earlier = view.last_run(state, "raid", {Outcome.COMPLETE}, NIGHT + 1.5 * DAY)
    assert earlier is not None
    assert earlier.started_at == NIGHT + DAY


def test_a_run_of_a_clock_that_was_ahead_hides_no_later_one(state):
    now = datetime.now(UTC)

    def ran_at(hours, outcome):
        at = now + timedelta(hours=hours)
        return ran(Run(
            name=snapshot_name(at, "www4"), resource="raid", node="www4", outcome=outcome, started_at=at,
            finished_at=at,
        ))

    def outcome():
        return view.last_run_of(state, "raid", "www4").outcome

    record(state, ran_at(-30, Outcome.COMPLETE))
    record(state, ran_at(18, Outcome.STOOD_DOWN))
    assert outcome() is Outcome.STOOD_DOWN  # all that is known of it since
    record(state, ran_at(-1, Outcome.REFUSED))
    assert outcome() is Outcome.REFUSED
    record(state, ran_at(-0.5, Outcome.FAILED))
    assert outcome() is Outcome.FAILED


def test_the_last_run_is_found_behind_many_that_do_not_count(state):
    store.record(state, "www4", [a_run(0), *(a_run(n, Outcome.STOOD_DOWN) for n in range(1, 350))])
    found = view.last_run(state, "raid", {Outcome.COMPLETE}, NIGHT + 999 * DAY)
    assert found is not None
    assert found.started_at == NIGHT


def test_runs_come_newest_first_and_those_from_the_future_last(state):
    record(state, a_run(1), a_run(2), a_run(40_000))
    assert [run.started_at for run in view.runs(state, "raid")] == [NIGHT + n * DAY for n in (2, 1, 40_000)]
    assert len(view.runs(state, "raid", limit=2)) == 2


def test_a_refusal_is_told_once_per_due_time(state):
    assert not view.was_reported(state, "raid", NIGHT, "no")
    store.note_reported(state, "raid", NIGHT, "no")
    store.note_reported(state, "raid", NIGHT, "no")
    assert view.was_reported(state, "raid", NIGHT, "no")
    assert not view.was_reported(state, "raid", NIGHT, "something else")
    assert not view.was_reported(state, "other", NIGHT, "no")
    store.note_reported(state, "raid", NIGHT + DAY, "no")
    assert not view.was_reported(state, "raid", NIGHT, "no")


def test_a_fact_of_another_node_cannot_be_recorded_and_then_nothing_is(state):
    with pytest.raises(CatalogError):
        store.record(state, "www4", [a_run(1), a_run(2, node="www5")])
    assert view.runs(state, "raid") == []


def test_recording_twice_is_recording_once(state):
    assert store.record(state, "www4", [a_run(1), a_run(2)]) == 2
    assert store.record(state, "www4", [a_run(2), a_run(3)]) == 1


def test_the_state_is_nobody_elses_to_read(state):
    old = os.umask(0)
    try:
        record(state, a_run(1))
    finally:
        os.umask(old)
    assert os.stat(state).st_mode & 0o777 == 0o700
    assert os.stat(f"{state}/catalog.db").st_mode & 0o777 == 0o600


def broken(kind, path):
    os.mkdir(os.path.dirname(path))
    if kind == "text":
        with open(path, "w") as file:
            file.write("this is no database\n" * 500)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "foreign":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE cats (name)")
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE fact (mice)")
            connection.execute("PRAGMA user_version = 7")


@pytest.mark.parametrize("kind", ["text", "folder", "foreign", "foreign fact"])
def test_a_broken_catalog_is_an_error_with_the_way_out_and_can_be_set_aside(state, kind):
    broken(kind, f"{state}/catalog.db")
    attempts = (
        lambda: view.copies(state, "www4", "raid", ()), lambda: record(state, a_run(1)), lambda: view.seen(state)
    )  # fmt: skip
    for attempt in attempts:
        with pytest.raises(CatalogError) as caught:
            attempt()
        assert "drbdbackup sync --rebuild" in caught.value.hint
    aside = store.set_aside(state)
    assert aside is not None
    assert os.path.exists(aside)
    assert salvage(aside) == []
    record(state, a_run(1))
    assert len(view.runs(state, "raid")) == 1


def test_an_empty_file_that_a_crash_left_is_a_catalog_without_facts(state):
    os.mkdir(state)
    with open(f"{state}/catalog.db", "w"):
        pass
    assert view.copies(state, "www4", "raid", ()) == []
    record(state, a_run(1))
    assert len(view.runs(state, "raid")) == 1


def test_what_a_damaged_catalog_still_holds_can_be_saved(state):
    store.record(state, "www4", [a_run(n) for n in range(50)])
    with sqlite3.connect(f"{state}/catalog.db") as connection:
        connection.execute("UPDATE fact SET body = replace(body, 'complete', 'failed') WHERE subject LIKE '20241110%'")
    aside = store.set_aside(state)
    assert aside is not None
    saved = salvage(aside)
    assert len(saved) == 49
    assert store.record(state, "www4", saved) == 49


def test_there_is_nothing_to_set_aside_where_there_is_no_catalog(tmp_path):
    assert store.set_aside(str(tmp_path)) is None


def test_a_catalog_of_a_newer_version_can_be_read_and_written(state):
    record(state, copied("www4", NIGHT, a_copy(1)))
    with sqlite3.connect(f"{state}/catalog.db") as connection:
        connection.execute("ALTER TABLE fact ADD COLUMN shape TEXT")
        connection.execute("CREATE TABLE novelty (x)")
        connection.execute("PRAGMA user_version = 9")
    record(state, copied("www4", NIGHT, a_copy(2)), fact("www4", NIGHT, "omen", "raid", "raven", {"flies": "left"}))
    assert len(view.copies(state, "www4", "raid", ())) == 2


def test_a_row_that_rotted_on_our_own_disk_is_passed_over(state):
    record(state, copied("www4", NIGHT, a_copy(1)), copied("www4", NIGHT, a_copy(2)), a_run(1))
    with sqlite3.connect(f"{state}/catalog.db") as connection:
        connection.execute("UPDATE fact SET body = x'ff00' WHERE subject LIKE '%20241102%'")
    assert [copy.sequence for copy in view.copies(state, "www4", "raid", ())] == [2]
    assert view.runs(state, "raid") == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("drbdbackup.catalog.view", {"sqlite_utils", "sh", "rich", "croniter", "typer", "asyncio", "subprocess"}),
     ("drbdbackup.catalog.store", {"sqlite_utils", "sh", "rich", "croniter", "typer"}),
     ("drbdbackup.catalog.transfer", {"sqlite3", "sqlite_utils"})],
)  # fmt: skip
def test_reading_the_catalog_imports_next_to_nothing(module, unwanted):
    script = f"import sys, {module}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not unwanted & set(modules)


def a_config(state):
    disk = TargetConfig(name="disk", kind="disk", device="/dev/sdb1", mountpoint="/saving")
    return Config(
        file="", node="www4", nodes=("www4", "www5"), state_dir=state,
        targets=(TargetConfig(name="nas", kind="nas", path="/n"), disk),
        resources=(ResourceConfig(name="raid", source="/srv/raid"),),
    )  # fmt: skip


def test_what_another_node_says_of_media_takes_no_copy_out_of_sight(state):
    """It may say of any share that it is another medium, and of any medium that it is its own disk."""
    place = {"kind": "disk", "location": "x:/dev/sdb1"}
    made = [
        a_copy(1), a_copy(2, target="disk", holder="www4", medium="own", kind="disk"),
        a_copy(3, "www5", target="disk", holder="www5", medium="theirs", kind="disk"),
    ]  # fmt: skip
    record(state, *(copied(copy.node, NIGHT, copy) for copy in made))
    record(state, expected("www4", NIGHT, "disk@www4", KnownMedium("own", **place)))
    record(state, expected("www4", NIGHT, "nas", KnownMedium("nas", kind="nas", location="nas:/n")))
    for day, medium in enumerate(("own", "nas"), 1):
        record(state, expected("www5", NIGHT + day * DAY, "disk@www5", KnownMedium(medium, **place)))
        found = view.configured(a_config(state), "raid")
        assert [(one.target, one.holder) for one in found] == [("disk", "www5"), ("disk", "www4"), ("nas", "")]
    for day, medium in enumerate(("own", "theirs"), 2):
        told = KnownMedium(medium, kind="nas", location="nas:/n")
        record(state, expected("www5", NIGHT + day * DAY, "nas", told))
        found = view.configured(a_config(state), "raid")
        assert [(one.target, one.holder) for one in found] == [("disk", "www5"), ("disk", "www4"), ("nas", "")]
