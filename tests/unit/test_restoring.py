"""What is written down of a restore in place: read back with distrust, and understood in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import bodies, restores, store
from drbdbackup.commands.status import in_progress
from drbdbackup.model.restoring import RESUME, RestoreStage, Restoring, from_document
from drbdbackup.model.role import Decision, Role, Verdict

AT = datetime(2026, 11, 24, 3, 15, tzinfo=UTC)
ONE = Restoring(
    name="20261124T031500Z-www4-71", resource="raid", node="www4", stage=RestoreStage.REPLACING,
    snapshot="20261123T043000Z-www5", path="www/shop", begun_at=AT, safety="20261124T031502Z-www4-safety",
)  # fmt: skip


@pytest.mark.parametrize("stage", RestoreStage)
def test_it_is_read_as_it_was_written(stage: RestoreStage) -> None:
    one = replace(ONE, stage=stage)
    assert from_document(one.as_document()) == one


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": "halfway"}, {"stage": 2}, {"snapshot": "../../etc"}, {"snapshot": None}, {"path": "/etc"},
        {"path": "www/../../etc"}, {"path": "a\0b"}, {"begun_at": "last night"}, {"begun_at": "2026-11-24T03:15:00"},
        {"safety": 7}, {"name": []},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_none(wrong: dict[str, object]) -> None:
    assert from_document({**ONE.as_document(), **wrong}) is None
    assert from_document({}) is None


def test_keys_of_a_newer_version_do_no_harm() -> None:
    assert from_document({**ONE.as_document(), "shoe_size": 43}) == ONE


def test_only_while_it_replaces_the_volume_is_half() -> None:
    assert [stage for stage in RestoreStage if replace(ONE, stage=stage).is_half] == [RestoreStage.REPLACING]


def recorded(state_dir: str, *told: Restoring, at: datetime = AT) -> None:
    store.record(state_dir, "www4", [bodies.restoring("www4", at, one) for one in told])


STAGES = (RestoreStage.BEGUN, RestoreStage.REPLACING, RestoreStage.RESTORED)


@pytest.mark.parametrize("order", list(permutations(STAGES)))
def test_facts_of_one_second_tell_the_last_stage_in_any_order(tmp_path, order: tuple[RestoreStage, ...]) -> None:
    recorded(str(tmp_path), *(replace(ONE, stage=stage) for stage in order))
    found = restores.unfinished(str(tmp_path), "raid")
    assert found is not None
    assert found.stage is RestoreStage.RESTORED


def test_one_that_has_ended_is_over_whatever_came_after(tmp_path) -> None:
    recorded(str(tmp_path), replace(ONE, stage=RestoreStage.ENDED))
    recorded(str(tmp_path), ONE, at=AT + timedelta(hours=1))
    assert restores.unfinished(str(tmp_path), "raid") is None


def test_the_newest_of_several_counts_and_of_its_own_resource(tmp_path) -> None:
    later = replace(ONE, name="20261124T041500Z-www5-3", begun_at=AT + timedelta(hours=1))
    recorded(str(tmp_path), later, ONE, replace(later, name="another", resource="other", stage=RestoreStage.BEGUN))
    assert restores.unfinished(str(tmp_path), "raid") == later
    recorded(str(tmp_path), replace(later, stage=RestoreStage.ENDED))
    assert restores.unfinished(str(tmp_path), "raid") == ONE


def test_people_are_told_what_and_how_far() -> None:
    assert ONE.description == (
        "a restore of www/shop from 20261123T043000Z-www5, begun on www4, was not finished: the volume is half restored"
    )
    assert "cannot be read" in replace(ONE, snapshot="").description


def test_while_it_goes_on_nobody_is_asked_to_decide() -> None:
    """`status` there; once it was interrupted it says how to go on."""
    because = ("raid is Primary here", ONE.description)
    half = Verdict(decision=Decision.REFUSE, because=because, role=Role.PRIMARY, hint=RESUME)
    going = in_progress(half, ONE)
    assert (going.decision, going.because[0], len(going.because)) == (Decision.REFUSE, half.because[0], 2)
    assert ONE.description not in going.because
    assert "--accept" not in going.hint
    assert in_progress(replace(half, hint="Mount it."), ONE).hint == "Mount it."
