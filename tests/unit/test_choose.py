from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from drbdbackup.errors import NoBackup, NothingFound, OutOfReach, Undecided, UsageError
from drbdbackup.model.backup import Copy, snapshot_name
from drbdbackup.model.generation import Generation
from drbdbackup.pipeline.copies.choose import CopyRequest, Way, candidates, choose

NIGHT = datetime(2026, 11, 1, 4, 30, tzinfo=UTC)
DAY = timedelta(days=1)
NODES, TARGETS = ("www4", "www5"), ("nas", "disk")


def a_copy(sequence, node, at, **more):
    """A copy at "nas", or at the disk of a node, as in "disk@www4"."""
    target, _, holder = at.partition("@")
    started = NIGHT + sequence * DAY
    values = {"medium": at.replace("@", "-"), "location": f"{holder}:/dev/sdb1" if holder else "nas:/backup"}
    return Copy(
        snapshot=snapshot_name(started, node), resource="raid", sequence=sequence, node=node, target=target,
        kind="disk" if holder else "nas", holder=holder, path="/x/data", started_at=started,
        finished_at=started, files=1, bytes=1, **{**values, **more},
    )


# www4 was Primary for two nights, then www5 for one; each wrote to the NAS and to its own disk.
COPIES = [
    a_copy(3, "www5", "nas"), a_copy(3, "www5", "disk@www5"), a_copy(2, "www4", "nas"),
    a_copy(2, "www4", "disk@www4"), a_copy(1, "www4", "nas"), a_copy(1, "www4", "disk@www4"),
]  # fmt: skip


def chosen(here="www4", copies=COPIES, unreadable=(), **wish):
    found = candidates(copies, CopyRequest(**wish), here, NODES, TARGETS)
    return choose(found, here, lambda copy: "it is off" if copy.medium in unreadable else "")


def test_the_newest_comes_from_the_nas_where_this_node_has_none_itself():
    choice = chosen()
    assert (choice.copy, choice.way, choice.passed_over) == (COPIES[0], Way.SHARE, ())


def test_this_nodes_own_disk_is_nearer_than_the_nas():
    assert chosen("www5").copy is COPIES[1]
    assert chosen("www5").way is Way.OWN_DISK


def test_the_peers_disk_is_the_last_resort_and_still_the_newest():
    choice = chosen(unreadable={"nas"})
    assert (choice.copy, choice.way) == (COPIES[1], Way.PEER)
    assert [passed.copy for passed in choice.passed_over] == [COPIES[0]]
    assert choice.out_of_reach == ()


def test_an_older_one_is_taken_only_with_a_word_about_the_newer():
    choice = chosen(unreadable={"nas", "disk-www5"})
    assert (choice.copy, choice.way) == (COPIES[3], Way.OWN_DISK)
    assert [(passed.copy, passed.why) for passed in choice.out_of_reach] == [
        (COPIES[0], "it is off"), (COPIES[1], "it is off"),
    ]  # fmt: skip


def test_nothing_that_can_be_read_tells_why():
    with pytest.raises(OutOfReach, match=r"2026\d+T043000Z-www5, .* at nas:/backup: it is off"):
        chosen(unreadable={"nas", "disk-www5", "disk-www4"})


def test_from_a_node_means_what_it_made_wherever_it_lies():
    assert chosen("www5", origin="www4").copy is COPIES[2]
    assert chosen("www4", origin="www4").copy is COPIES[3]
    assert chosen("www4", origin="www5").copy is COPIES[0]


def test_from_a_target_means_what_lies_there_whoever_made_it():
    assert chosen("www5", origin="nas").copy is COPIES[0]
    assert chosen("www4", origin="disk", unreadable={"disk-www5"}).copy is COPIES[3]
    assert chosen("www4", origin="disk").copy is COPIES[1]


def test_from_something_unknown_names_what_is_known():
    with pytest.raises(UsageError, match="--from www6") as told:
        chosen(origin="www6")
    assert "www4, www5" in told.value.hint
    assert "nas, disk" in told.value.hint
    with pytest.raises(UsageError):
        chosen(copies=[], origin="www6")


def test_what_lies_on_a_target_that_is_no_longer_configured_can_be_named():
    old = replace(COPIES[0], target="old")
    assert chosen(copies=[old], origin="old").copy is old


def test_at_takes_the_newest_that_was_begun_by_then():
    assert chosen(at=NIGHT + 2 * DAY).copy.sequence == 2
    assert chosen(at=NIGHT + 2 * DAY - timedelta(seconds=1)).copy.sequence == 1
    with pytest.raises(NothingFound) as told:
        chosen(at=NIGHT)
    assert COPIES[0].snapshot in told.value.hint


def test_the_beginning_of_a_snapshots_name_is_enough_if_only_one_begins_so():
    assert chosen(snapshot="20261102").copy.sequence == 1
    assert chosen(snapshot=COPIES[2].snapshot).copy.sequence == 2
    with pytest.raises(UsageError, match="several") as told:
        chosen(snapshot="202611")
    assert COPIES[0].snapshot in told.value.hint
    assert "--" not in told.value.message  # `diff`, too, takes snapshots, and has no such option


def test_a_name_that_is_also_the_beginning_of_another_means_itself():
    again = replace(COPIES[0], snapshot=COPIES[0].snapshot + "-2", sequence=4)
    assert chosen(copies=[again, *COPIES], snapshot=COPIES[0].snapshot).copy is COPIES[0]


def test_a_damaged_copy_is_passed_over_for_a_sound_one_of_the_same_snapshot():
    copies = [replace(COPIES[0], damaged_at=NIGHT), *COPIES[1:]]
    assert chosen(copies=copies).copy is COPIES[1]


def test_a_snapshot_that_is_damaged_everywhere_is_taken_only_by_its_name():
    copies = [replace(copy, damaged_at=NIGHT) if copy.sequence == 3 else copy for copy in COPIES]
    assert chosen(copies=copies).copy.sequence == 2
    assert chosen(copies=copies, snapshot=COPIES[0].snapshot).copy.damaged_at == NIGHT
    with pytest.raises(NothingFound, match="damaged"):
        chosen(copies=copies, origin="www5")


def test_what_is_known_from_a_medium_alone_is_taken_only_by_its_name_or_if_there_is_no_other():
    copies = [replace(copy, adopted=True) if copy.sequence == 3 else copy for copy in COPIES]
    assert chosen(copies=copies).copy.sequence == 2
    assert chosen(copies=copies, snapshot=COPIES[0].snapshot).copy.sequence == 3
    assert chosen(copies=copies, origin="www5").copy.sequence == 3


def test_without_any_copy_the_way_out_is_named():
    with pytest.raises(NoBackup) as told:
        chosen(copies=[])
    assert "sync --rebuild" in told.value.hint


def test_what_there_is_stays_short():
    many = [a_copy(number, "www4", "nas") for number in range(20, 0, -1)]
    with pytest.raises(NothingFound) as told:
        chosen(copies=many, snapshot="1999")
    assert "15 more" in told.value.hint


APART = {"www4": Generation("B0".zfill(16), "A0".zfill(16)), "www5": Generation("C0".zfill(16), "A0".zfill(16))}
# After the nights above, both were Primary apart; www5's is the newer.
TORN = [
    a_copy(5, "www5", "nas", generation=APART["www5"]), a_copy(4, "www4", "nas", generation=APART["www4"]),
    a_copy(4, "www4", "disk@www4", generation=APART["www4"]), *COPIES,
]  # fmt: skip


def test_between_rivals_the_choice_is_the_admins():
    with pytest.raises(Undecided) as told:
        chosen(copies=TORN)
    assert "--lineage www4 (20261105T043000Z-www4) or --lineage www5 (20261106T043000Z-www5)" in told.value.hint


def test_a_wish_that_leaves_one_of_the_rivals_is_a_choice():
    assert chosen(copies=TORN, lineage="www5").copy is TORN[0]
    assert chosen(copies=TORN, lineage="www4").copy is TORN[2]
    assert chosen(copies=TORN, origin="www5").copy is TORN[0]
    assert chosen(copies=TORN, origin="disk").copy is TORN[2]
    assert chosen(copies=TORN, snapshot=TORN[0].snapshot).copy is TORN[0]
    assert chosen(copies=TORN, at=COPIES[0].started_at).copy is COPIES[0]


def test_what_the_rivals_have_in_common_belongs_to_each():
    assert chosen(copies=TORN, lineage="www4", at=COPIES[0].started_at).copy is COPIES[0]


def test_a_discarded_lineage_is_had_only_by_name():
    healed = [a_copy(6, "www4", "nas", generation=Generation("B0".zfill(16), "", ("A0".zfill(16),))), *TORN]
    assert chosen(copies=healed).copy is healed[0]
    assert chosen(copies=healed, at=TORN[0].started_at).copy is TORN[2]
    assert chosen(copies=healed, lineage="www5").copy is TORN[0]
    assert chosen(copies=healed, snapshot=TORN[0].snapshot).copy is TORN[0]
