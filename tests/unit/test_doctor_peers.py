"""What is said of the other nodes, and what this node says of itself."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from drbdbackup.catalog import pair, store
from drbdbackup.catalog.facts import fact
from drbdbackup.catalog.pair import ConfigSummary, summary_from
from drbdbackup.doctor import peers
from drbdbackup.doctor.peers import PeerFacts, Surroundings
from drbdbackup.pair import digests
from drbdbackup.pair.digests import OwnSummary

SAID = ConfigSummary((("authkeys", "0001"), ("haresources", "0002"), ("resource raid", "0003")), ("/var/www",))
HERE = Surroundings(OwnSummary(SAID), has_disks=True, resources=("raid",))
GOOD = PeerFacts(node="www5", asked=True, summary=SAID, over_ssh=True)
AT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


def without(name: str) -> ConfigSummary:
    return replace(SAID, digests=tuple(one for one in SAID.digests if one[0] != name))


def other(name: str) -> ConfigSummary:
    return replace(SAID, digests=tuple((one, "ffff" if one == name else value) for one, value in SAID.digests))


def wrong(facts: PeerFacts, here: Surroundings = HERE) -> dict[str, str]:
    return {one.check: one.state.value for one in peers.judge(facts, here) if one.state.value != "ok"}


def test_a_pair_as_it_should_be() -> None:
    assert wrong(GOOD) == {}
    checks = ["peer", "same haresources", "same authkeys", "same resource raid", "same links"]
    assert [one.check for one in peers.judge(GOOD, HERE)] == checks


@pytest.mark.parametrize("name", ["authkeys", "haresources", "resource raid"])
def test_a_file_that_differs_or_is_missing_on_one_side_fails(name) -> None:
    assert wrong(replace(GOOD, summary=other(name))) == {f"same {name}": "fail"}
    assert wrong(replace(GOOD, summary=without(name))) == {f"same {name}": "fail"}
    assert wrong(GOOD, replace(HERE, own=OwnSummary(without(name)))) == {f"same {name}": "fail"}
    assert wrong(GOOD, replace(HERE, own=OwnSummary(without(name), unread=(name,)))) == {f"same {name}": "warn"}


def test_with_pacemaker_no_file_of_heartbeat_is_missed() -> None:
    neither = without("authkeys")
    assert wrong(replace(GOOD, summary=neither), replace(HERE, own=OwnSummary(neither))) == {}


@pytest.mark.parametrize("linked", [(), ("/var/lib/mysql", "/var/www"), ("/var/lib/mysql",)])
def test_a_folder_that_is_linked_on_one_node_only_fails(linked) -> None:
    assert wrong(replace(GOOD, summary=replace(SAID, linked=linked))) == {"same links": "fail"}


def test_folders_that_cannot_be_looked_at_are_not_missed_there() -> None:
    unread = OwnSummary(replace(SAID, linked=()), unread=(digests.LINKS,))
    assert wrong(GOOD, replace(HERE, own=unread)) == {"same links": "warn"}


def test_a_pair_without_links_is_not_asked_for_any() -> None:
    bare = replace(SAID, linked=())
    assert wrong(replace(GOOD, summary=bare), replace(HERE, own=OwnSummary(bare))) == {}


@pytest.mark.parametrize(("problem", "state"), [
    ("www5 cannot be reached over ssh: Connection refused", "warn"), ("does not answer within 20 s", "warn"),
    ("www5 cannot be reached over ssh: root@x: Permission denied (publickey).", "fail"),
    ("www5 cannot be reached over ssh: Host key verification failed.", "fail"),
])  # fmt: skip
def test_a_peer_that_is_away_is_worth_a_warning_one_that_refuses_fails(problem, state) -> None:
    assert wrong(replace(GOOD, problem=problem, over_ssh=False)) == {"peer": state}


def test_without_ssh_the_other_disk_cannot_be_fetched() -> None:
    by_catalog = replace(GOOD, asked=False, over_ssh=False, seen_at=AT, key="4f" * 32)
    assert wrong(by_catalog) == {"peer": "warn"}
    assert wrong(by_catalog, replace(HERE, has_disks=False)) == {}


def test_a_key_that_is_not_known_is_worth_a_warning_once_a_catalog_has_come() -> None:
    assert wrong(replace(GOOD, seen_at=AT)) == {"key": "warn"}
    known = replace(GOOD, seen_at=AT, key="4f" * 32)
    assert wrong(known) == {}
    [unsigned] = [one for one in peers.judge(replace(known, unsigned=("nas",)), HERE) if one.check == "key"]
    assert (unsigned.state.value, "keys/www5.pub" in unsigned.remedy) == ("warn", True), "no key helps an older version"


def test_what_is_known_from_the_catalog_says_since_when() -> None:
    found = peers.judge(replace(GOOD, asked=False, over_ssh=False, seen_at=AT, summary=other("authkeys")), HERE)
    [differs] = [one for one in found if one.check == "same authkeys"]
    assert "as reported by www5 at 2026-11-23T04:30:00Z" in differs.because


def test_a_difference_is_a_warning_only_where_this_node_has_changed_since_the_other_told() -> None:
    summary = replace(other("authkeys"), linked=())
    told = replace(GOOD, asked=False, over_ssh=False, seen_at=AT, key="4f" * 32, summary=summary)
    for day, state in ((22, "fail"), (24, "warn")):
        here = replace(HERE, changed_at=AT.replace(day=day), has_disks=False)
        assert wrong(told, here) == {"same authkeys": state, "same links": state}
        assert wrong(replace(told, asked=True, over_ssh=True), here) == {"same authkeys": "fail", "same links": "fail"}


def test_a_node_that_never_told_anything_is_worth_a_warning() -> None:
    assert wrong(replace(GOOD, summary=None)) == {"same files": "warn"}


def test_a_check_value_shows_a_difference_and_next_to_nothing_else() -> None:
    nodes = ("www4", "www5")
    one = digests.check_value("authkeys", b"1 sha1 secret\n", nodes)
    assert len(one) * 4 == digests.BITS == 16
    assert one == digests.check_value("authkeys", b"1 sha1 secret\n", reversed(nodes))
    assert one != digests.check_value("authkeys", b"1 sha1 Secret\n", nodes)
    assert one != digests.check_value("haresources", b"1 sha1 secret\n", nodes)
    assert one != digests.check_value("authkeys", b"1 sha1 secret\n", ("www4", "www6"))


@pytest.mark.parametrize(("text", "defined"), [
    ("resource raid {", True), ('resource "raid" {\n', True), ("}resource raid{", True),
    ("\n\tresource  raid\n{", True),
    ("# resource raid {", False), ("resource raid1 {", False), ("myresource raid {", False), ("", False),
])  # fmt: skip
def test_which_file_has_the_resource(text, defined) -> None:
    assert digests.defines(text, "raid") is defined


def test_what_a_node_said_last_is_what_counts(tmp_path) -> None:
    state = str(tmp_path)
    assert pair.newest(state, "www5") is None
    store.record(state, "www5", [pair.paired("www5", AT, SAID)])
    later = AT.replace(day=24)
    store.record(state, "www5", [pair.paired("www5", later, other("authkeys"))])
    assert pair.newest(state, "www5") == replace(other("authkeys"), at=later)
    assert pair.newest(state, "www4") is None


def test_what_no_node_can_mean_is_passed_over(tmp_path) -> None:
    state = str(tmp_path)
    store.record(state, "www5", [fact("www5", AT, pair.PAIR, "", "www5", {"digests": [], "linked": 3})])
    store.record(state, "www4", [fact("www4", AT, pair.PAIR, "", "www5", SAID.as_body())])  # another's word
    assert pair.newest(state, "www5") is None
    assert summary_from({"digests": {"a": 1, "b": "2"}, "linked": ["/x", 3], "more": 1}, None) == ConfigSummary(
        (("b", "2"),), ("/x",)
    )
