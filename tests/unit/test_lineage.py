"""Lineages: what each step in a pair's life makes of them, one case at a time."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.errors import NothingFound, UsageError
from drbdbackup.lineage import ONE_LINE, Lineages, lineages
from drbdbackup.model.backup import Copy
from drbdbackup.model.generation import Generation, from_document, parse
from tests.played_drbd import BEGAN, PlayedDrbd, a_copy

CONNECTED = "D5A1C7E0B2F34A58:0000000000000000:8E1BC21EB3C3F5A4:8E1AC21EB3C3F5A4:1:1:0:1:0:0:0\n"
SHOWN = f"""
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       V               V                 V         V
{CONNECTED.strip()}
                                                                    ^ ^ ^ ^ ^ ^ ^
"""
NINE = "D5A1C7E0B2F34A59:{}:8E1AC21EB3C3F5A4:0000000000000000:1:1:1:1:0:0:1:1:0:0:0:0\n"


@pytest.fixture
def pair() -> PlayedDrbd:
    """Connected, www4 Primary, with a backup of before."""
    pair = PlayedDrbd()
    pair.write("www4")
    pair.back_up("www4")
    return pair


def torn(pair: PlayedDrbd) -> None:
    """Both nodes have written apart from one another, and made a backup."""
    pair.cut()
    pair.promote("www5")
    for node in ("www4", "www5"):
        pair.write(node)
        pair.back_up(node)


def newest_first(pair: PlayedDrbd) -> list[Copy]:
    return sorted(pair.copies, key=lambda copy: copy.sequence, reverse=True)


def names(found: Lineages) -> list[str]:
    return [line.name for line in found.rivals]


def test_the_flag_of_a_primary_is_no_part_of_a_uuid() -> None:
    told = parse("D5A1C7E0B2F34A59:8E1AC21EB3C3F5A5:0000000000000001:0000000000000000:1:1:1:0:0:0:0\n")
    assert told == Generation("D5A1C7E0B2F34A58", "8E1AC21EB3C3F5A4")


@pytest.mark.parametrize("text", [CONNECTED, SHOWN])
def test_get_gi_and_show_gi_say_the_same(text: str) -> None:
    assert parse(text) == Generation("D5A1C7E0B2F34A58", "", ("8E1BC21EB3C3F5A4", "8E1AC21EB3C3F5A4"))


def test_of_several_peers_one_that_lacks_it_counts() -> None:
    told = parse(NINE.format("0" * 16) + NINE.format("77DE000000000002"))
    assert told == Generation("D5A1C7E0B2F34A58", "77DE000000000002", ("8E1AC21EB3C3F5A4",))


@pytest.mark.parametrize("text", [
    "", "?\n", "minor not allocated\n", CONNECTED[:40], CONNECTED.replace("D5A1", "D5G1"),
    "0000000000000000:0000000000000000:0000000000000000:0000000000000000:1:1:0:1:0:0:0\n",
    "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n",
    CONNECTED + CONNECTED.replace("D5A1", "D5A2"),
])  # fmt: skip
def test_what_is_no_generation_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("document", [
    None, "D5A1C7E0B2F34A58", {}, {"current": "D5A1C7E0B2F34A58"}, {"current": 1, "bitmap": "", "history": []},
    {"current": "D5A1C7E0B2F34A58", "bitmap": "x", "history": []},
    {"current": "D5A1C7E0B2F34A58", "bitmap": "", "history": [""]},
    {"current": "D5A1C7E0B2F34A58", "bitmap": "", "history": ["D5A1C7E0B2F34A58"] * 65},
])  # fmt: skip
def test_a_document_that_tells_no_generation_is_none(document: object) -> None:
    assert from_document(document) is None


def test_a_pair_that_stays_together_has_one_line(pair: PlayedDrbd) -> None:
    pair.demote("www4")
    pair.promote("www5")
    pair.back_up("www5")
    assert lineages(pair.copies) == ONE_LINE


def test_a_primary_that_goes_on_alone_is_no_split_brain(pair: PlayedDrbd) -> None:
    pair.cut()
    pair.write("www4")
    pair.back_up("www4")
    assert lineages(pair.copies) == ONE_LINE


def test_failovers_with_links_that_break_in_between_are_no_split_brain(pair: PlayedDrbd) -> None:
    for one, other in (("www4", "www5"), ("www5", "www4")) * 4:
        pair.cut()
        pair.write(one)
        pair.back_up(one)
        pair.connect()
        assert pair.connected
        pair.demote(one)
        pair.promote(other)
        pair.back_up(other)
    assert lineages(pair.copies) == ONE_LINE


def test_generations_that_no_copy_saw_are_no_split_brain(pair: PlayedDrbd) -> None:
    for _ in range(5):
        pair.cut()
        pair.write("www4")
        pair.connect()
    pair.demote("www4")
    pair.promote("www5")
    pair.cut()
    pair.write("www5")
    pair.back_up("www5")
    assert pair.copies[0].generation is not None
    assert pair.copies[-1].generation is not None
    assert pair.copies[0].generation.current not in pair.copies[-1].generation.history
    assert lineages(pair.copies) == ONE_LINE


def test_two_nodes_that_wrote_apart_are_rivals(pair: PlayedDrbd) -> None:
    torn(pair)
    found = lineages(pair.copies)
    assert names(found) == ["www4", "www5"]
    assert found.of(pair.copies[0]) is None


def test_a_node_that_wrote_apart_without_a_backup_has_no_rival(pair: PlayedDrbd) -> None:
    pair.cut()
    pair.promote("www5")
    pair.write("www4")
    pair.write("www5")
    pair.back_up("www5")
    assert pair.diverged
    assert lineages(pair.copies) == ONE_LINE


@pytest.mark.parametrize("loser", ["www4", "www5"])
def test_when_it_is_resolved_the_next_backup_tells_which_survived(pair: PlayedDrbd, loser: str) -> None:
    torn(pair)
    lost = {"www4": pair.copies[-2], "www5": pair.copies[-1]}[loser]
    pair.discard(loser)
    winner = pair.peer(loser).name
    pair.back_up(winner)
    found = lineages(pair.copies)
    assert found.rivals == ()
    assert [copy for copy in pair.copies if found.is_discarded(copy)] == [lost]
    assert newest_first(pair)[0].node == winner


def test_what_was_thrown_away_is_known_without_a_backup_of_the_survivor_from_before(pair: PlayedDrbd) -> None:
    pair.cut()
    pair.promote("www5")
    lost = pair.back_up("www5")
    pair.discard("www5")
    pair.back_up("www4")
    found = lineages(pair.copies)
    assert [copy for copy in pair.copies if found.is_discarded(copy)] == [lost]


def test_it_is_over_when_a_node_goes_on_though_nobody_saw_how(pair: PlayedDrbd) -> None:
    torn(pair)
    pair.discard("www5")
    for _ in range(3):
        pair.cut()
        pair.connect()
    pair.cut()
    pair.back_up("www4")
    assert lineages(pair.copies).rivals == ()


def test_the_one_that_took_over_tells_it_too(pair: PlayedDrbd) -> None:
    torn(pair)
    pair.discard("www5")
    pair.demote("www4")
    pair.promote("www5")
    pair.cut()
    pair.write("www5")
    pair.back_up("www5")
    found = lineages(pair.copies)
    assert found.rivals == ()
    assert [line.name for line in found.discarded] == ["www5"]


def test_the_discarded_one_is_not_the_newest_however_many_copies_it_has(pair: PlayedDrbd) -> None:
    pair.close_roads()
    torn(pair)
    pair.nodes["www5"].known = 50
    pair.back_up("www5")
    pair.discard("www5")
    pair.back_up("www4")
    found = lineages(pair.copies)
    assert newest_first(pair)[0].node == "www5"
    assert found.chosen(newest_first(pair), "")[0].node == "www4"


def test_a_copy_that_tells_no_generation_belongs_to_its_nodes_last(pair: PlayedDrbd) -> None:
    torn(pair)
    silent = replace(pair.copies[-1], snapshot="20261102T043000Z-www5", sequence=9, generation=None)
    found = lineages([*pair.copies, silent])
    line = found.of(silent)
    assert line is not None
    assert line.name == "www5"


def test_a_node_that_came_for_another_is_believed() -> None:
    base, one, other = "00000000000000A0", Generation("00000000000000B0", "00000000000000A0"), Generation(
        "00000000000000C0", "00000000000000A0"
    )  # fmt: skip
    made = [a_copy(1, "www4", BEGAN, one), a_copy(2, "www5", BEGAN, other)]
    assert names(lineages(made)) == ["www4", "www5"]
    shared = Generation("00000000000000F0", "", ("00000000000000E0",))
    assert lineages([*made, a_copy(3, "www6", BEGAN, shared)]).rivals == ()
    assert lineages([*made, a_copy(3, "www6", BEGAN, Generation(base))]).rivals != ()


def test_two_nodes_with_a_third_long_gone_are_no_rivals() -> None:
    gone = "00000000000000A0"
    first = Generation("00000000000000B0", gone)
    second = Generation("00000000000000C0", gone, (first.current,))
    assert lineages([a_copy(1, "www4", BEGAN, first), a_copy(2, "www5", BEGAN, second)]) == ONE_LINE


def test_what_comes_from_a_shared_one_is_not_discarded_for_a_third_long_gone() -> None:
    gone = "00000000000000A0"
    shared = Generation("00000000000000B0", "", (gone,))
    after = Generation("00000000000000C0", gone, (shared.current,))
    assert lineages([a_copy(1, "www4", BEGAN, shared), a_copy(2, "www5", BEGAN, after)]) == ONE_LINE


def test_a_primary_that_begins_anew_while_alone_does_not_hide_its_rival() -> None:
    base = "00000000000000A0"
    first = Generation("00000000000000B0", base)
    again = Generation("00000000000000C0", base, (first.current,))
    rival = Generation("00000000000000D0", base)
    made = [a_copy(1, "www4", BEGAN, first), a_copy(2, "www4", BEGAN, again), a_copy(2, "www5", BEGAN, rival)]
    found = lineages(made)
    assert {line.generation for line in found.rivals} == {again.current, rival.current}


def test_a_choice_is_the_lineage_and_what_all_have_in_common(pair: PlayedDrbd) -> None:
    torn(pair)
    copies = newest_first(pair)
    found = lineages(copies)
    assert [copy.node for copy in found.chosen(copies, "www5")] == ["www5", "www4"]
    assert found.chosen(copies, "www5")[1] == pair.copies[0]
    line = found.named("www4")
    assert found.named(line.generation[:6].lower()) == line
    assert len(found.chosen(copies, "")) == 3


def test_of_the_discarded_there_are_but_its_own_copies(pair: PlayedDrbd) -> None:
    torn(pair)
    pair.discard("www5")
    pair.back_up("www4")
    found = lineages(pair.copies)
    assert [copy.node for copy in found.chosen(pair.copies, "www5")] == ["www5"]
    assert len(found.chosen(pair.copies, "")) == 3


def test_a_lineage_that_is_not_there_is_a_mistake(pair: PlayedDrbd) -> None:
    with pytest.raises(UsageError, match="one lineage"):
        lineages(pair.copies).named("www4")
    torn(pair)
    with pytest.raises(UsageError, match="no such lineage"):
        lineages(pair.copies).named("www6")


def test_nothing_is_decided_between_rivals(pair: PlayedDrbd) -> None:
    torn(pair)
    copies = newest_first(pair)
    error = lineages(copies).undecided(copies)
    assert isinstance(error, NothingFound)
    assert "www4" in error.hint
    assert "www5" in error.hint
    assert lineages(copies).undecided([copy for copy in copies if copy.node == "www5"]) is None


REAL = json.loads((Path(__file__).parents[1] / "captures/generations-8.4.11.json").read_text())
SPLIT = {"split brain", "split brain, link back"}


def copies_of(step: dict[str, Any], made: list[Copy]) -> list[Copy]:
    """A backup of every node that is Primary in this step of a real pair's life."""
    return [
        a_copy(len(made) + 1, node, BEGAN + timedelta(minutes=len(made)), parse(step[node]["get-gi"]))
        for node in ("www4", "www5") if step[node]["role"] == "Primary"
    ]  # fmt: skip


def test_a_real_pair_had_one_split_brain_and_www4_survived_it() -> None:
    made: list[Copy] = []
    for step in REAL:
        made += copies_of(step, made)
        found = lineages(made)
        assert names(found) == (["www4", "www5"] if step["step"] in SPLIT else []), step["step"]
    assert [line.name for line in found.discarded] == ["www5"]


def test_a_real_volume_that_never_held_anything_and_one_without_a_disk_tell_no_generation() -> None:
    assert parse(REAL[0]["www4"]["get-gi"]) is None
    assert (REAL[-1]["www4"]["exit"], parse(REAL[-1]["www4"]["get-gi"])) == (1, None)


def test_in_sync_both_real_nodes_tell_the_same_but_for_the_flag() -> None:
    together = next(step for step in REAL if step["step"] == "together a third time")
    assert together["www4"]["get-gi"] != together["www5"]["get-gi"]
    assert parse(together["www4"]["get-gi"]) == parse(together["www5"]["get-gi"])
