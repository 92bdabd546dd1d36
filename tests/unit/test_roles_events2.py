from __future__ import annotations

import pytest

from drbdbackup.model.role import Connection, DiskState, Role
from drbdbackup.roles import events2
from tests.captured import CAPTURES, Capture

LONE = (
    "exists resource name:{name} role:{role} suspended:no\n"
    "exists device name:{name} volume:0 minor:{minor} disk:UpToDate\n"
)
PAIR = """\
exists resource name:raid role:Primary suspended:no force-io-failures:no may_promote:no promotion_score:10102
exists connection name:raid peer-node-id:0 conn-name:www5 connection:Connected role:Secondary
exists device name:raid volume:0 minor:0 backing_dev:/dev/sda1 disk:UpToDate client:no quorum:yes
exists device name:raid volume:1 minor:7 backing_dev:none disk:Diskless client:no quorum:yes
exists peer-device name:raid peer-node-id:0 conn-name:www5 volume:0 replication:Established peer-disk:UpToDate
exists peer-device name:raid peer-node-id:0 conn-name:www5 volume:1 replication:SyncTarget peer-disk:UpToDate
exists path name:raid peer-node-id:0 conn-name:www5 local:ipv4:10.0.0.2:7788 peer:ipv4:10.0.0.3:7788 established:yes
exists -
"""


def dump(**roles: str) -> str:
    lines = [LONE.format(name=name, role=role, minor=minor) for minor, (name, role) in enumerate(roles.items())]
    return "".join(lines) + "exists -\n"


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_each_captured_state_has_the_role_that_the_node_had(capture: Capture):
    seen = events2.parse(capture.events2, "raid")
    assert seen.role is capture.expected.role
    assert bool(seen.problem) is (seen.role is Role.UNKNOWN)


@pytest.mark.parametrize(("name", "role"), [("r1", "Secondary"), ("r10", "Primary"), ("raid", "Primary")])
def test_names_that_contain_each_other_are_told_apart(name: str, role: str):
    text = dump(r10="Primary", r1="Secondary", raid2="Secondary", raid="Primary", aid="Secondary")
    assert events2.parse(text, name).role is Role(role)


def test_a_resource_that_is_only_part_of_other_names_is_not_there():
    seen = events2.parse(dump(r10="Primary", raid2="Primary"), "raid")
    assert seen.role is Role.UNKNOWN
    assert "it lists r10, raid2" in seen.problem


def test_a_tie_breaker_is_told_from_a_peer_that_has_lost_its_disk():
    def is_client(said: str) -> bool:
        [peer] = events2.parse(PAIR.replace("peer-disk:UpToDate", f"peer-disk:Diskless{said}"), "raid").peers
        return peer.is_client

    assert [is_client(said) for said in ("", " peer-client:no", " peer-client:yes")] == [False, False, True]


def test_volumes_are_told_in_their_order_with_disks_minors_and_what_the_peer_has():
    lines = PAIR.splitlines(keepends=True)
    lines[2], lines[3] = lines[3], lines[2]
    seen = events2.parse("".join(lines), "raid")
    assert seen.disks == (DiskState.UP_TO_DATE, DiskState.DISKLESS)
    assert (seen.minors, seen.volumes) == ((0, 7), (0, 1))
    [peer] = seen.peers
    assert (peer.name, peer.role, peer.connection) == ("www5", Role.SECONDARY, Connection.CONNECTED)
    assert (peer.disks, peer.syncing) == ((DiskState.UP_TO_DATE, DiskState.UP_TO_DATE), "SyncTarget")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("suspended:no", "suspended:no", ""),
        ("suspended:no", "suspended:user", "user"),
        ("suspended:no", "suspended:no-data,fencing", "no-data,fencing"),
        ("suspended:no", "suspended:quorum", "quorum"),
        ("quorum:yes", "quorum:no", "quorum"),
        ("force-io-failures:no", "force-io-failures:yes", "force-io-failures"),
    ],
)
def test_suspended_io_is_told_with_its_reason(old: str, new: str, reason: str):
    seen = events2.parse(PAIR.replace(old, new), "raid")
    assert (seen.role, seen.suspended) == (Role.PRIMARY, reason)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("exists -\n", "", "cut short"),
        ("exists -\n", "exists -", "cut short"),
        ("exists -\n", "exists -\nexists -\n", "in the midst of it"),
        (PAIR, "", "cut short"),
        ("role:Primary", "role:Leader", "'Leader' is no role"),
        ("role:Primary", "role:", "'' is no role"),
        ("role:Primary ", "", "has no role"),
        ("role:Primary", "role:Primary role:Secondary", "not a field"),
        ("suspended:no ", "", "has no suspended"),
        ("suspended:no", "suspended:weather", "'weather' is no reason"),
        ("quorum:yes", "quorum:maybe", "neither yes nor no"),
        ("disk:UpToDate client", "disk:Sleeping client", "'Sleeping' is no disk"),
        ("connection:Connected", "connection:Courting", "'Courting' is no connection"),
        ("replication:SyncTarget", "replication:Dreaming", "'Dreaming' is no replication"),
        ("minor:7", "minor:seven", "'seven' is not a number"),
        ("conn-name:www5 connection", "conn-name:w\x1b[2J connection", "'w\\x1b[2J' is not a name"),
        ("exists device", "change device", "not an object"),
        ("\nexists connection", "\n\nexists connection", "not an object"),
        ("exists resource", "exists resources", "but not the resource"),
        ("exists connection", "exists connections", "are not listed as they should be"),
        ("exists device name:raid volume:1", "exists path name:raid volume:1", "are not listed as they should be"),
        (" conn-name:www5 volume:1 ", " conn-name:www5 volume:2 ", "are not listed as they should be"),
    ],
)
def test_what_is_not_whole_or_not_understood_is_no_role(old: str, new: str, words: str):
    assert old in PAIR
    seen = events2.parse(PAIR.replace(old, new), "raid")
    assert seen.role is Role.UNKNOWN
    assert words in seen.problem
    assert seen.hint


@pytest.mark.parametrize("line", range(6))
def test_an_object_that_is_listed_twice_is_no_role(line: int):
    lines = PAIR.splitlines(keepends=True)
    lines.insert(0, lines[line])
    seen = events2.parse("".join(lines), "raid")
    assert seen.role is Role.UNKNOWN
    assert "listed twice" in seen.problem


def test_kinds_of_objects_and_fields_of_newer_versions_are_passed_over():
    newer = PAIR.replace("exists path", "exists tunnel").replace("client:no", "client:no open:yes mood:good")
    assert events2.parse(newer, "raid") == events2.parse(PAIR, "raid")


def test_words_of_another_resource_that_are_not_known_do_no_harm():
    text = dump(raid="Primary", r1="Secondary").replace("name:r1 role:Secondary", "name:r1 role:Leader")
    assert events2.parse(text, "raid").role is Role.PRIMARY
    assert events2.parse(text, "r1").role is Role.UNKNOWN


def test_a_role_that_drbd_itself_does_not_know_is_unknown():
    seen = events2.parse(PAIR.replace("role:Primary", "role:Unknown"), "raid")
    assert (seen.role, seen.problem) == (Role.UNKNOWN, "DRBD itself does not know the role of raid")


def test_a_resource_without_a_volume_is_no_role():
    seen = events2.parse("exists resource name:raid role:Secondary suspended:no\nexists -\n", "raid")
    assert (seen.role, "no volume" in seen.problem) == (Role.UNKNOWN, True)
