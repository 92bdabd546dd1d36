from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drbdbackup.catalog import folders, merge, publish, view
from drbdbackup.catalog.facts import COLUMNS, as_row, canonical, fact, identity
from drbdbackup.catalog.local import rows
from drbdbackup.catalog.publish import Content, by_id, digest_of
from drbdbackup.errors import CatalogError
from tests.properties.played_nodes import ANYBODY, NIGHT, PlayedNode, a_fact

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def nodes(tmp_path):
    first, second = PlayedNode(str(tmp_path), "www4"), PlayedNode(str(tmp_path), "www5")
    first.record(*(a_fact("www4", "copy", n, "www4", "nas", n) for n in (1, 2)))
    second.record(a_fact("www5", "copy", 1, "www5", "disk", 1))
    second.hear(first.publish())
    first.record(*(a_fact("www4", kind, n, "www4", "nas", n) for n in (1, 2, 3) for kind in ("copy", "damaged")))
    return first, second


def everything(node):
    return {table: rows(node.state, sql) for table, sql in {
        "fact": "SELECT * FROM fact ORDER BY id", "seen": "SELECT * FROM seen ORDER BY node",
        "standing": "SELECT * FROM standing ORDER BY subject",
    }.items()}  # fmt: skip


def assert_refused(node, content):
    before = everything(node)
    merged = node.hear(content)
    assert merged.refused
    assert merged.new == 0
    assert everything(node) == before


@FEW
@given(data=st.data())
def test_a_file_that_was_cut_off_anywhere_is_refused_and_changes_nothing(nodes, data):
    whole = nodes[0].published[-1] if len(nodes[0].published) > 1 else nodes[0].publish()
    assert_refused(nodes[1], whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_was_of_no_meaning(nodes, data):
    first, second = nodes
    whole = bytearray(first.published[-1] if len(first.published) > 1 else first.publish())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    before = everything(second)
    third = PlayedNode(os.path.dirname(first.state), "www6")
    shutil.rmtree(third.state, ignore_errors=True)
    shutil.copytree(second.state, third.state)
    if third.hear(bytes(whole)).refused:
        assert everything(third) == before
    else:
        assert third.ids() == second.ids() | first.ids()
        assert view.seen(third.state)["www4"].seen_at > view.seen(second.state)["www4"].seen_at


@FEW
@given(st.binary(max_size=9000))
def test_anything_at_all_is_refused(nodes, content):
    assert_refused(nodes[1], content)


def sealed(node, tmp_path, *statements, rows_too=()):
    """A published catalog into which a hand wrote, with digests that fit again wherever they can be computed."""
    file = str(tmp_path / "sealed.db")
    with open(file, "wb") as into:
        into.write(node.publish())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        for row in rows_too:
            connection.execute("INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", row)
        with suppress(KeyError, sqlite3.OperationalError):
            reseal(connection)
    with open(file, "rb") as made:
        return made.read()


def reseal(connection):
    content = Content()
    for row in by_id(connection):
        content.add({key: value for key, value in row.items() if not isinstance(value, bytes)})
    connection.execute("UPDATE meta SET rows = ?, content = ?", (content.count, content.digest()))
    cursor = connection.execute("SELECT * FROM meta")
    meta = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
    connection.execute("UPDATE meta SET digest = ?", (digest_of(meta),))


def test_what_the_tests_seal_is_taken_in_if_nothing_is_wrong_with_it(nodes, tmp_path):
    good = as_row(fact("www4", NIGHT, "omen", "raid", "raven", {}))
    more = ("CREATE TABLE novelty (x)", "ALTER TABLE meta ADD COLUMN motto TEXT DEFAULT 'hello'")
    assert nodes[1].hear(sealed(nodes[0], tmp_path, *more, rows_too=[good])).new > 1


PLAIN = "CREATE TABLE copied AS SELECT * FROM fact"


@pytest.mark.parametrize(
    "statements",
    [
        (PLAIN, "DROP TABLE fact", "CREATE VIEW fact AS SELECT * FROM copied"),
        ("CREATE VIEW trap AS SELECT 1",),
        ("CREATE TRIGGER trap AFTER INSERT ON fact BEGIN DELETE FROM fact; END",),
        ("CREATE VIRTUAL TABLE trap USING fts5(x)",),
        ("ALTER TABLE fact ADD COLUMN trap AS (upper(body)) VIRTUAL",),
        ('ALTER TABLE fact ADD COLUMN "x; DROP TABLE fact" TEXT',),
        tuple(f"ALTER TABLE fact ADD COLUMN c{n} TEXT" for n in range(40)),
        ("ALTER TABLE fact RENAME COLUMN subject TO object", "ALTER TABLE fact ADD COLUMN extra TEXT"),
        ("UPDATE meta SET node = '../../etc/cron.d/x'",),
        ("UPDATE meta SET published_at = 'soon'",),
        ("ALTER TABLE fact ADD COLUMN picture", "UPDATE fact SET picture = x'ff'"),
        ("UPDATE fact SET body = x'7b7d'",),
        ("UPDATE fact SET body = CAST(x'7bff7d' AS TEXT)",),
        ("UPDATE fact SET body = '{}'",),
        ("UPDATE fact SET at = '2026-11-23T04:30:00Z'",),
    ],
)  # fmt: skip
def test_a_file_that_another_hand_wrote_into_is_refused(nodes, tmp_path, statements):
    assert_refused(nodes[1], sealed(nodes[0], tmp_path, *statements))


def row_with(**change):
    row = dict(zip(COLUMNS, as_row(fact("www4", NIGHT, "omen", "raid", "raven", {"a": 1})), strict=True)) | change
    if "id" not in change:
        row["id"] = identity(*(row[name] for name in COLUMNS[1:]))
    return tuple(row.values())


@pytest.mark.parametrize(
    "row",
    [
        row_with(id="0" * 32), row_with(id="x"), row_with(node="../www4"), row_with(node="x" * 100),
        row_with(at="later"), row_with(at="2026-11-23T05:30:00+01:00"), row_with(kind=""), row_with(kind="k" * 100),
        row_with(subject=""), row_with(subject="s" * 5000), row_with(body="[]"),
        row_with(body='{"a": 1}'), row_with(body='{"a":NaN}'),
        row_with(body='{"a":' + "[" * 100_000 + "]" * 100_000 + "}"), row_with(body='{"a":' * 900 + "1" + "}" * 900),
        row_with(body=canonical({"a": "x" * (1 << 20)})), row_with(body=canonical({"a": "x" * (5 << 20)})),
        row_with(body='{"a":' + "9" * 5000 + "}"),
    ],
    ids=range(18),
)  # fmt: skip
def test_one_row_that_is_no_fact_makes_the_whole_file_refused(nodes, tmp_path, row):
    assert_refused(nodes[1], sealed(nodes[0], tmp_path, rows_too=[row]))


def test_an_id_that_stands_there_twice_with_other_content_is_refused(nodes, tmp_path):
    whole = as_row(fact("www4", NIGHT, "omen", "raid", "raven", {"a": 1}))
    forged = (*whole[:6], '{"a":2}')
    loose = ("CREATE TABLE loose AS SELECT * FROM fact", "DROP TABLE fact", "ALTER TABLE loose RENAME TO fact")
    assert nodes[1].hear(sealed(nodes[0], tmp_path, *loose, rows_too=[whole])).new
    assert_refused(nodes[1], sealed(nodes[0], tmp_path, *loose, rows_too=[whole, forged]))


@pytest.mark.parametrize(
    "statement", ["DELETE FROM meta", "INSERT INTO meta SELECT * FROM meta", "DROP TABLE meta",
                  "UPDATE meta SET node = 'www9'", "UPDATE meta SET published_at = '2027-01-01T00:00:00Z'",
                  "DELETE FROM fact WHERE rowid = 1", "UPDATE meta SET rows = rows + 1"],
)  # fmt: skip
def test_a_file_whose_seal_does_not_fit_is_refused(nodes, tmp_path, statement):
    file = str(tmp_path / "broken.db")
    with open(file, "wb") as into:
        into.write(nodes[0].publish())
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    with open(file, "rb") as made:
        assert_refused(nodes[1], made.read())


@pytest.mark.parametrize("what", ["folder", "symlink", "fifo", "absent", "huge"])
def test_what_is_no_plain_file_is_refused_without_being_read(nodes, tmp_path, what):
    first, second = nodes
    good, file = publish.publish(first.state, "www4"), str(tmp_path / "odd.db")
    match what:
        case "folder":
            os.mkdir(file)
        case "symlink":
            os.symlink(good, file)
        case "fifo":
            os.mkfifo(file)
        case "huge":
            with open(file, "wb") as sparse:
                sparse.truncate(1 << 40)
    before = everything(second)
    assert merge.merge(second.state, file, "nas", ANYBODY).refused
    assert everything(second) == before


def test_a_damaged_catalog_of_our_own_is_not_sent_to_others(nodes):
    nodes[0].altered("UPDATE fact SET body = replace(body, 'nas', 'naz') WHERE kind = 'copy'")
    with pytest.raises(CatalogError) as caught:
        nodes[0].publish()
    assert "--rebuild" in caught.value.hint
    assert os.listdir(f"{nodes[0].state}/published") == ["www4.db"]


def test_a_journal_that_lies_beside_a_file_is_not_played(nodes):
    first, second = nodes
    folder = folders.incoming_folder(second.state, "nas")
    for tail in ("-journal", "-wal"):
        with open(f"{folder}/heard-1.db{tail}", "wb") as beside:
            beside.write(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\xff" * 4000)
    assert second.hear(first.publish()).new > 0
