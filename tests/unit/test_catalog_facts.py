from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import facts
from drbdbackup.catalog.bodies import (
    EndedTarget,
    Run,
    adopted,
    copy_body,
    copy_from,
    damaged,
    ran,
    run_from,
)
from drbdbackup.catalog.facts import Fact, as_row, canonical, fact, from_row, identity, moment
from drbdbackup.catalog.rebuild import SidecarMedium, copies_from_sidecars
from drbdbackup.errors import CatalogError
from drbdbackup.model.backup import Copy, Outcome, iso

NIGHT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
COPY = Copy(
    snapshot="20261123T043000Z-www4", resource="raid", sequence=7, node="www4", target="nas", kind="nas",
    medium="0" * 32, location="nas:/backup", holder="", path="/backup/drbdbackup/raid/20261123T043000Z-www4/data",
    started_at=NIGHT, finished_at=NIGHT + timedelta(minutes=9), files=12, bytes=3456, problems=1,
)
PLACE = SidecarMedium("0" * 32, "nas", "nas", "", "nas:/backup", "/backup/drbdbackup")
SIDECAR = {
    "schema": 1, "snapshot": COPY.snapshot, "resource": "raid", "sequence": 7, "node": "www4", "started_at": iso(NIGHT),
    "finished_at": iso(COPY.finished_at), "files": 12, "bytes": 3456, "entries": 20, "manifest": "manifest.gz",
    "problems": [{"path": "a", "problem": "vanished"}], "problem_count": 1, "medium": "of long ago", "target": "old",
}


def is_genuine(whole: Fact) -> bool:
    """Whether other nodes take it in."""
    try:
        return facts.why_invalid(as_row(whole)) == ""
    except (TypeError, ValueError):
        return False


def said(**body):
    return fact("www4", NIGHT, "copy", "raid", "s", body)


def test_the_same_words_have_the_same_id_whatever_the_order_of_their_keys():
    assert said(a=1, b=[2]) == said(b=[2], a=1)
    assert said(a=1).id != said(a=2).id


@pytest.mark.parametrize(
    "change", [{"node": "www5"}, {"at": iso(NIGHT + timedelta(1))}, {"kind": "pruned"}, {"resource": "x"},
               {"subject": "t"}, {"body": {"a": 2}}, {"id": "0" * 32}],
)  # fmt: skip
def test_a_fact_that_was_changed_in_any_column_is_not_genuine(change):
    assert is_genuine(said(a=1))
    assert not is_genuine(replace(said(a=1), **change))


def test_a_fact_comes_back_from_its_row_unchanged():
    whole = said(name="caf\u00e9 \udcff\n", deep={"list": [1, 2.5, None, True]})
    assert from_row(as_row(whole)) == whole
    assert not facts.why_invalid(as_row(whole))


def test_a_body_that_is_too_large_is_cut_and_not_lost():
    whole = said(problems=[{"path": "x" * 5000}] * 5000, outcome="failed")
    assert is_genuine(whole)
    assert whole.body["outcome"] == "failed"
    assert 0 < len(whole.body["problems"]) < 5000


def test_what_others_would_refuse_is_not_recorded():
    with pytest.raises(CatalogError):
        fact("../www4", NIGHT, "copy", "raid", "s", {})
    with pytest.raises(CatalogError):
        said(**{str(n): "x" * 1900 for n in range(1000)})


@pytest.mark.parametrize(
    "body", ['{"a": 1}', '{"a":NaN}', '{"a":1e999}', "[]", "1", "", "{", '{"a":' + "[" * 90000, '{"b":1,"a":1}',
             '{"a":1,"a":1}', '{"a":' + "9" * 5000 + "}", '{"a":' * 40 + "1" + "}" * 40],
)  # fmt: skip
def test_a_body_that_is_no_canonical_object_is_no_fact_even_if_the_id_fits(body):
    columns = (*as_row(said())[1:6], body)
    assert facts.why_invalid((identity(*columns), *columns)) == "its body is malformed"


def test_a_body_that_is_nested_without_end_is_no_fact():
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(CatalogError):
        said(**deep)


@pytest.mark.parametrize("text", ["2026-11-23T04:30:00", "yesterday", "", None, 5, "9999-12-31T23:59:59-23:59"])
def test_what_is_no_time_is_none(text):
    assert moment(text) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a\n", "x" * 65, "caf\u00e9", "-rf"])
def test_what_cannot_be_a_nodes_name_is_not_taken_for_one(name):
    assert not facts.is_node_name(name)


def test_a_copy_comes_back_from_its_body():
    assert copy_from(json.loads(canonical(copy_body(COPY)))) == COPY


def test_keys_of_a_newer_version_do_no_harm():
    assert copy_from({**copy_body(COPY), "compressed": {"with": "zstd"}, "\ud800": 1}) == COPY


@pytest.mark.parametrize("key", [key for key in copy_body(COPY) if key != "problems"])
def test_a_body_that_lacks_a_key_is_no_copy(key):
    body = copy_body(COPY)
    del body[key]
    assert copy_from(body) is None


@pytest.mark.parametrize("value", [None, [], {}, 1.5, -1, True, 1 << 70, "", "../../etc", "x\0"])
@pytest.mark.parametrize("key", [
    "snapshot", "resource", "sequence", "medium", "path", "started_at", "finished_at", "problems",
])  # fmt: skip
def test_a_value_that_cannot_be_makes_no_copy(key, value):
    assert copy_from({**copy_body(COPY), key: value}) is None


def test_a_path_that_leads_elsewhere_makes_no_copy():
    assert copy_from({**copy_body(COPY), "path": "/backup/../etc"}) is None


def test_a_run_comes_back_from_its_fact():
    run = Run(
        name="20261123T043000Z-www4", resource="raid", node="www4", outcome=Outcome.PARTIAL, started_at=NIGHT,
        finished_at=NIGHT + timedelta(minutes=2), because=("Primary", "peer down"),
        targets=(("nas", EndedTarget(outcome="failed", message="full", hint="free")),), due_at=NIGHT, snapshot="snap",
    )
    assert run_from(ran(run)) == run


@pytest.mark.parametrize("body", [{}, {"outcome": "jubilant"}, {"outcome": ["complete"]}, {"outcome": None}])
def test_a_run_with_an_outcome_of_a_newer_version_is_passed_over(body):
    times = {"started_at": iso(NIGHT), "finished_at": iso(NIGHT)}
    assert run_from(fact("www4", NIGHT, "run", "raid", "r", {**times, **body})) is None


def test_only_the_first_problems_of_a_damaged_copy_are_kept_with_their_number():
    body = damaged("www4", NIGHT, COPY, [f"file {n}" for n in range(1000)]).body
    assert len(body["problems"]) == 100
    assert body["count"] == 1000


def test_a_sidecar_tells_what_the_copy_fact_told():
    (found,) = copies_from_sidecars(PLACE, [("raid", COPY.snapshot, SIDECAR)])
    assert found == replace(COPY, adopted=True)


def test_nobody_vouches_for_what_a_sidecar_says_of_its_manifest():
    (found,) = copies_from_sidecars(PLACE, [("raid", COPY.snapshot, {**SIDECAR, "manifest_sha256": "a" * 64})])
    assert found.manifest_sha256 == "a" * 64
    assert copy_from(adopted("www5", NIGHT, found).body) == replace(COPY, adopted=True)


@pytest.mark.parametrize(
    ("folder", "document"),
    [("20261124T043000Z-www4", SIDECAR), (COPY.snapshot, {**SIDECAR, "resource": "other"}), (COPY.snapshot, []),
     (COPY.snapshot, None), (COPY.snapshot, {}), (COPY.snapshot, {**SIDECAR, "sequence": "7"}), ("..", SIDECAR)],
)  # fmt: skip
def test_a_sidecar_that_makes_no_sense_where_it_lies_is_passed_over(folder, document):
    assert not copies_from_sidecars(PLACE, [("raid", folder, document)])
