from __future__ import annotations

import os
import stat

import pytest
from msgspec.structs import replace

from drbdbackup import gate
from drbdbackup.config.values import Config, ResourceConfig, RoleConfig
from drbdbackup.gate import Evidence, judge
from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Connection, Decision, DiskState, Observation, PeerSeen, Role, Verdict
from drbdbackup.roles import events2
from drbdbackup.tools import mounts
from tests.captured import CAPTURES, MOUNTED, Capture

NODES = ("www4", "www5")
RAID = ResourceConfig(name="raid", source="/srv/raid", device="/dev/drbd0")
FIRST_NODE = replace(RAID, dual_primary="first-node")
ROOT = Mount(mount_id=1, parent_id=0, device="8:1", root="/", point="/", fstype="ext4", source="/dev/sda1")
PEER = PeerSeen("www5", Role.SECONDARY, Connection.CONNECTED, (DiskState.UP_TO_DATE,))
PRIMARY = Observation(
    resource="raid", source="drbdsetup", role=Role.PRIMARY, disks=(DiskState.UP_TO_DATE,), peers=(PEER,), minors=(0,),
)
SECONDARY = replace(PRIMARY, role=Role.SECONDARY)
BY_FILE = Observation(resource="raid", source="file", role=Role.PRIMARY)
DUAL = replace(PRIMARY, peers=(replace(PEER, role=Role.PRIMARY),))


def verdict(
    *seen: Observation, resource: ResourceConfig = RAID, mounted: Mount | None = MOUNTED, node: str = "www4",
    nodes: tuple[str, ...] = NODES, names: tuple[str, ...] = ("/dev/drbd0",), number: str = "147:0",
) -> Verdict:
    table = (ROOT, mounted) if mounted else (ROOT,)
    return judge(resource, node, nodes, Evidence(seen, table, names, number))


def test_a_volume_that_is_not_backed_up_is_named_unless_it_may_be_left_out():
    seen = replace(PRIMARY, disks=(DiskState.UP_TO_DATE,) * 2, minors=(0, 7), volumes=(0, 3))
    for role in (Role.PRIMARY, Role.SECONDARY):
        [left_out] = verdict(replace(seen, role=role)).left_out
        assert "volume 3 (/dev/drbd7)" in left_out
        assert left_out in verdict(replace(seen, role=role)).because
        assert verdict(replace(seen, role=role), resource=replace(RAID, ignore_volumes=(3,))).left_out == ()
    assert verdict(PRIMARY).left_out == ()
    assert verdict(seen, names=("/dev/vg/lv",), number="253:0").left_out == ()  # LVM may lie on both


def test_what_is_mounted_in_the_volume_is_named():
    points = [f"/srv/raid/{name}" for name in ("mail", "mail", "old", "proc", "sys")]
    inside = tuple(replace(MOUNTED, point=point, device="8:17") for point in (*points, "/srv/raids"))

    def named(*below: Mount) -> list[str]:
        given = judge(RAID, "www4", NODES, Evidence((PRIMARY,), (ROOT, MOUNTED, *below), ("/dev/drbd0",), "147:0"))
        return [reason for reason in given.because if "mounted in it" in reason]

    [several], [one] = named(*inside), named(inside[0], inside[-1])
    assert [point in several for point in points] == [True, True, True, True, False]
    assert ("1 more" in several, "/srv/raid/mail" in one, "/srv/raids" in one) == (True, True, False)
    assert named(inside[-1]) == []


def with_peer(**changes: object) -> Observation:
    return replace(PRIMARY, peers=(replace(PEER, **changes),))


def judged(capture: Capture, table: tuple[Mount, ...]) -> Verdict:
    seen = events2.parse(capture.events2, "raid")
    return judge(RAID, capture.node, NODES, Evidence((seen,), table, ("/dev/drbd0",), "147:0"))


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_a_peer_that_drbd_has_given_up_is_named(capture: Capture):
    seen = events2.parse(capture.events2, "raid")
    other = next(node for node in NODES if node != capture.node)
    is_apart = any(peer.connection is Connection.STANDALONE for peer in seen.peers)
    assert gate.given_up(capture.node, NODES, Evidence((seen,), ())) == ((other,) if is_apart else ())
    assert is_apart or "www5-disconnected-standalone-www5" not in str(capture)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_each_captured_state_leads_to_the_verdict_that_an_admin_would_give(capture: Capture):
    given = judged(capture, capture.mounts)
    assert (given.role, given.decision) == (capture.expected.role, capture.expected.captured)
    if capture.expected.captured is not capture.expected.mounted:
        assert given.because[-1] == "nothing is mounted at /srv/raid"
    assert bool(given.hint) is (given.decision is Decision.REFUSE)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_each_captured_state_with_the_device_mounted_says_why(capture: Capture):
    given = judged(capture, (ROOT, MOUNTED))
    assert (given.role, given.decision) == (capture.expected.role, capture.expected.mounted)
    assert any(capture.expected.words in sentence for sentence in given.because), given.because


def test_every_captured_state_is_expected_to_lead_somewhere():
    assert len(CAPTURES) == 94
    assert {capture.expected.role for capture in CAPTURES} == set(Role)


def test_a_primary_with_its_device_mounted_is_backed_up():
    given = verdict(PRIMARY)
    assert given == Verdict(
        decision=Decision.PROCEED, because=("raid is Primary here", "/dev/drbd0 is mounted at /srv/raid"),
        role=Role.PRIMARY, disk="UpToDate", peer_role="Secondary",
    )


def test_a_primary_whose_device_is_not_mounted_is_refused():
    given = verdict(PRIMARY, mounted=None)
    assert given.decision is Decision.REFUSE
    assert given.because == ("raid is Primary here", "nothing is mounted at /srv/raid")
    assert "mount /dev/drbd0 /srv/raid" in given.hint
    by_symlink = verdict(PRIMARY, mounted=replace(MOUNTED, point="/mnt/raid"))
    assert (by_symlink.decision, by_symlink.because) == (Decision.REFUSE, given.because)
    assert 'source = "/mnt/raid"' in by_symlink.hint, "not to be mounted a second time"


def test_a_primary_with_something_else_mounted_is_refused():
    given = verdict(PRIMARY, mounted=replace(MOUNTED, device="8:17", source="/dev/sdb1"))
    assert given.decision is Decision.REFUSE
    assert given.because[-1] == "/dev/sdb1 is mounted at /srv/raid, not /dev/drbd0"


def test_a_device_is_known_by_its_number_whatever_its_name():
    logical = replace(MOUNTED, device="253:4", source="/dev/mapper/vg-web")
    given = verdict(PRIMARY, mounted=logical, resource=replace(RAID, device="/dev/vg/web"), names=(), number="253:4")
    assert given.decision is Decision.PROCEED


def test_a_name_that_now_means_another_device_does_not_count():
    given = verdict(PRIMARY, mounted=replace(MOUNTED, device="8:17", source="/dev/drbd0"))
    assert given.decision is Decision.REFUSE


def test_btrfs_shows_an_anonymous_number_so_its_source_field_counts():
    btrfs = replace(MOUNTED, device="0:45", fstype="btrfs")
    assert verdict(PRIMARY, mounted=btrfs).decision is Decision.PROCEED
    assert verdict(PRIMARY, mounted=replace(btrfs, source="/dev/drbd00")).decision is Decision.REFUSE
    for fstype in ("fuse", "fuse.any"):  # where the top of the volume is a user's, he can mount this over it
        given = verdict(PRIMARY, mounted=replace(btrfs, fstype=fstype))
        assert given.decision is Decision.REFUSE
        assert given.because[-1] == f"{fstype}, which calls itself /dev/drbd0, is mounted at /srv/raid, not /dev/drbd0"


def test_a_device_whose_number_is_not_known_is_told_by_its_name():
    assert verdict(PRIMARY, number="").decision is Decision.PROCEED
    assert verdict(PRIMARY, mounted=replace(MOUNTED, source="/dev/sdb1"), number="").decision is Decision.REFUSE


def test_a_device_of_another_resource_is_refused_even_if_it_is_mounted():
    other = replace(RAID, device="/dev/drbd1")
    mounted = replace(MOUNTED, device="147:1", source="/dev/drbd1")
    given = verdict(PRIMARY, resource=other, mounted=mounted, names=("/dev/drbd1",), number="147:1")
    assert given.decision is Decision.REFUSE
    assert "/dev/drbd1 does not belong to raid: DRBD says minor 0" in given.because


@pytest.mark.parametrize("word", ["user", "no-data", "fencing", "quorum", "force-io-failures", "not-told"])
def test_a_primary_with_suspended_io_is_refused(word: str):
    given = verdict(replace(PRIMARY, suspended=word))
    assert given.decision is Decision.REFUSE
    assert "I/O on raid is suspended" in given.because[1]


@pytest.mark.parametrize("disk", [disk for disk in DiskState if disk is not DiskState.UP_TO_DATE])
def test_without_a_good_disk_the_data_may_come_from_a_connected_peer(disk: DiskState):
    given = verdict(replace(PRIMARY, disks=(disk,)))
    assert given.decision is Decision.PROCEED
    assert f"the disk here is {disk.value}: the data comes from a connected peer" in given.because


@pytest.mark.parametrize("peer", [
    {"connection": Connection.CONNECTING}, {"disks": (DiskState.INCONSISTENT,)}, {"disks": (DiskState.UNKNOWN,)},
    {"disks": ()},
])
def test_without_good_data_anywhere_a_primary_is_refused(peer: dict[str, object]):
    given = verdict(replace(with_peer(**peer), disks=(DiskState.DISKLESS,)))
    assert given.decision is Decision.REFUSE
    assert "no good data can be read: Diskless here, and no UpToDate peer is connected" in given.because


def test_each_volume_needs_good_data_where_the_device_is_none_of_them():
    seen = replace(PRIMARY, disks=(DiskState.UP_TO_DATE, DiskState.FAILED), peers=(), minors=(0, 1))
    logical = {"mounted": replace(MOUNTED, device="253:4"), "names": (), "number": "253:4"}
    assert verdict(seen, **logical).decision is Decision.REFUSE
    assert verdict(replace(seen, disks=(DiskState.UP_TO_DATE,) * 2), **logical).decision is Decision.PROCEED


def test_only_the_volume_that_the_device_is_needs_good_data():
    seen = replace(PRIMARY, disks=(DiskState.UP_TO_DATE, DiskState.FAILED), peers=(), minors=(0, 1))
    assert verdict(seen).decision is Decision.PROCEED
    assert verdict(replace(seen, minors=(1, 0))).decision is Decision.REFUSE


@pytest.mark.parametrize("connection", [each for each in Connection if each is not Connection.CONNECTED])
def test_a_peer_that_is_away_makes_the_copy_all_the_more_needed(connection: Connection):
    given = verdict(with_peer(connection=connection, role=Role.UNKNOWN, disks=(DiskState.UNKNOWN,)))
    assert given.decision is Decision.PROCEED
    word = connection.value
    assert given.because[-1] == f"the peer www5 is not connected ({word}), so the backup is the only second copy"


def test_a_peer_that_is_shown_primary_but_is_not_connected_does_not_stop_the_backup():
    given = verdict(with_peer(connection=Connection.STANDALONE, role=Role.PRIMARY))
    assert given.decision is Decision.PROCEED


def test_a_primary_without_any_peer_says_so():
    alone = "DRBD knows of no peer that has a disk, so the backup is the only second copy"
    assert alone in verdict(replace(PRIMARY, peers=())).because
    breaker = PeerSeen("www6", Role.SECONDARY, Connection.CONNECTED, (DiskState.DISKLESS,), is_client=True)
    assert alone in verdict(replace(PRIMARY, peers=(breaker,))).because
    assert verdict(replace(PRIMARY, peers=(PEER, breaker))).because == verdict(PRIMARY).because, "it needs no good data"
    lost = replace(breaker, is_client=False)
    assert any("no good copy" in why for why in verdict(replace(PRIMARY, peers=(lost,))).because)


def test_two_connected_primaries_are_refused():
    given = verdict(DUAL)
    assert given.decision is Decision.REFUSE
    assert given.because == ("raid is Primary here", "it is Primary on www5 too")
    assert 'dual_primary = "first-node"' in given.hint


@pytest.mark.parametrize("called", ["www5", "peer", "", "www5.example.org"])
def test_of_two_wanted_primaries_the_first_node_makes_the_backup(called: str):
    first = replace(DUAL, peers=(replace(DUAL.peers[0], name=called),))
    given = verdict(first, resource=FIRST_NODE)
    assert given.decision is Decision.PROCEED
    assert "it is Primary on www5 too, and www4 comes first in nodes" in given.because


@pytest.mark.parametrize("mounted", [MOUNTED, None])
def test_of_two_wanted_primaries_the_second_node_stands_down(mounted: Mount | None):
    second = replace(DUAL, peers=(replace(DUAL.peers[0], name="www4"),))
    given = verdict(second, resource=FIRST_NODE, node="www5", mounted=mounted)
    assert given.decision is Decision.STAND_DOWN
    assert "www4 comes first in nodes and backs it up" in given.because


def test_of_three_nodes_the_first_that_is_primary_makes_the_backup():
    last = replace(DUAL, peers=(replace(DUAL.peers[0], name="www6"), replace(PEER, name="www4")))
    assert verdict(last, resource=FIRST_NODE, node="www5", nodes=("www4", "www5", "www6")).decision is Decision.PROCEED


def test_primaries_that_cannot_be_told_apart_are_refused():
    strange = replace(DUAL, peers=(replace(DUAL.peers[0], name="alpha"),))
    given = verdict(strange, resource=FIRST_NODE)
    assert given.decision is Decision.REFUSE
    assert "it is unknown which of them comes first" in given.because[-1]


@pytest.mark.parametrize("mounted", [MOUNTED, None])
def test_a_secondary_stands_down_even_if_something_is_mounted(mounted: Mount | None):
    given = verdict(replace(SECONDARY, peers=(replace(PEER, role=Role.PRIMARY),)), mounted=mounted)
    assert given.decision is Decision.STAND_DOWN
    assert given.because == ("raid is Secondary here", "the peer www5 is Primary")
    assert (given.disk, given.peer_role, given.hint) == ("UpToDate", "Primary", "")


def test_a_role_that_could_not_be_read_is_refused_with_its_problem_and_hint():
    given = verdict(Observation(
        resource="raid", source="drbdsetup", role=Role.UNKNOWN, problem="the moon", hint="wait",
    ))
    assert given == Verdict(decision=Decision.REFUSE, because=("the moon",), role=Role.UNKNOWN, hint="wait")


def test_one_source_that_could_not_tell_is_enough_to_refuse():
    given = verdict(PRIMARY, Observation(resource="raid", source="file", role=Role.UNKNOWN, problem="it says nothing"))
    assert (given.decision, given.role) == (Decision.REFUSE, Role.UNKNOWN)


def test_sources_that_disagree_are_refused():
    given = verdict(PRIMARY, replace(SECONDARY, source="file"))
    assert (given.decision, given.role) == (Decision.REFUSE, Role.UNKNOWN)
    assert given.because == ("the sources disagree: drbdsetup says Primary, file says Secondary",)


def test_what_was_said_of_another_resource_is_refused():
    assert verdict(replace(PRIMARY, resource="r1")).decision is Decision.REFUSE
    assert verdict(PRIMARY, replace(PRIMARY, resource="r1")).decision is Decision.REFUSE


def test_without_any_observation_nothing_is_backed_up():
    assert verdict().decision is Decision.REFUSE


def without_a_device(mounted: Mount | None, *, require_mount: bool = True) -> Verdict:
    resource = replace(RAID, device="", require_mount=require_mount)
    return verdict(BY_FILE, resource=resource, mounted=mounted, names=(), number="")


def test_a_bare_mount_point_is_refused_without_a_device_too():
    given = without_a_device(None)
    assert given.decision is Decision.REFUSE
    assert given.because[-1] == "nothing is mounted at /srv/raid"
    assert "mount" in given.hint
    assert "require_mount" not in given.hint, "nobody is invited to switch the guard off"


def test_a_plain_folder_is_one_where_the_configuration_says_so():
    given = without_a_device(None, require_mount=False)
    assert given.decision is Decision.PROCEED
    assert "/srv/raid is a plain folder" in given.because


def test_a_role_from_a_file_needs_no_device_but_says_that_nothing_was_compared():
    given = without_a_device(MOUNTED)
    assert given.decision is Decision.PROCEED
    said = "/dev/drbd0 is mounted at /srv/raid, and no device is configured that it could be compared with"
    assert said in given.because
    assert "the role comes from file, which does not report disks and connections" in given.because


def test_a_role_from_a_file_with_a_device_needs_it_mounted():
    assert verdict(BY_FILE, mounted=None).decision is Decision.REFUSE
    assert verdict(BY_FILE).decision is Decision.PROCEED


def test_a_role_from_drbd_without_a_device_is_refused():
    given = verdict(PRIMARY, resource=replace(RAID, device=""), names=(), number="")
    assert given.because[-1] == "no device of raid is configured"


def test_evidence_holds_the_number_of_a_block_device_and_every_name_of_it(tmp_path):
    device, word = tmp_path / "drbd0", tmp_path / "role"
    os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(147, 0))
    (tmp_path / "by-res").symlink_to(device)
    word.write_text("Primary\n")
    resource = replace(RAID, device=str(tmp_path / "by-res"))
    config = Config(
        file="", node="www4", nodes=NODES, resources=(resource,), targets=(), role=RoleConfig("file", path=str(word)),
    )
    evidence = gate.gather(config, resource)
    assert evidence.device_number == "147:0"
    assert evidence.device_names == tuple(sorted((str(device), resource.device)))
    assert evidence.observations == (BY_FILE,)
    assert evidence.mounts == mounts.table()


@pytest.mark.parametrize("device", ["", "/dev/no-such-device", "/dev/null"])
def test_a_device_that_is_none_has_no_number(device: str):
    config = Config(
        file="", node="www4", nodes=NODES, resources=(), targets=(), role=RoleConfig("file", path="/no/such/file"),
    )
    evidence = gate.gather(config, replace(RAID, device=device))
    assert evidence.device_number == ""
