from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from drbdbackup.config.values import ResourceConfig
from drbdbackup.gate import Evidence, judge
from drbdbackup.model.mount import Mount
from drbdbackup.model.role import Connection, Decision, DiskState, Observation, PeerSeen, Role
from drbdbackup.tools.mounts import mounted_at

NODES = ("www4", "www5", "www6")
SOURCES = ("drbdsetup", "/proc/drbd", "drbdadm", "command", "file")

# mostly what lets a backup proceed, so that `proceed` is often reached
mostly = {
    "role": some.sampled_from([Role.PRIMARY] * 6 + list(Role)),
    "disk": some.sampled_from([DiskState.UP_TO_DATE] * 6 + list(DiskState)),
    "link": some.sampled_from([Connection.CONNECTED] * 6 + list(Connection)),
    "resource": some.sampled_from(["raid"] * 9 + ["r1"]),
    "suspended": some.sampled_from([""] * 9 + ["user", "no-data,quorum"]),
}
disks = some.lists(mostly["disk"], max_size=2).map(tuple)
peers = some.builds(
    PeerSeen, some.sampled_from(["www5", "www6", "peer", "", "alpha"]), some.sampled_from(Role), mostly["link"], disks,
    some.sampled_from(["", "SyncSource"]),
)


observations = some.builds(
    lambda has_minors, disks, **said: Observation(
        **said, disks=disks, minors=tuple(range(len(disks))) if has_minors else ()
    ),
    has_minors=some.booleans(), resource=mostly["resource"], source=some.sampled_from(SOURCES), role=mostly["role"],
    disks=disks, peers=some.lists(peers, max_size=2).map(tuple), suspended=mostly["suspended"],
    problem=some.sampled_from(["", "a problem"]),
)
devices = some.sampled_from(["147:0"] * 4 + ["147:1", "8:17", "0:45", ""])
names = some.sampled_from(["/dev/drbd0"] * 3 + ["/dev/drbd1", "/dev/sdb1"])
mounts = some.builds(
    Mount, mount_id=some.integers(2, 9), parent_id=some.just(1), device=devices, root=some.just("/"),
    point=some.sampled_from(["/srv/raid"] * 4 + ["/srv", "/srv/raid/www"]),
    fstype=some.sampled_from(["ext4"] * 4 + ["autofs"]), source=names,
)
ROOT_MOUNT = Mount(mount_id=1, parent_id=0, device="8:1", root="/", point="/", fstype="ext4", source="/dev/sda1")
evidence = some.builds(
    Evidence,
    some.lists(observations, max_size=3).map(tuple),
    some.lists(mounts, max_size=2, unique_by=lambda mount: mount.mount_id).map(
        lambda table: (ROOT_MOUNT, *table)
    ),
    names.map(lambda name: (name,)),
    devices,
)
resources = some.builds(
    ResourceConfig, name=some.just("raid"), source=some.just("/srv/raid"),
    device=some.sampled_from(["/dev/drbd0"] * 4 + [""]),
    dual_primary=some.sampled_from(["refuse", "first-node"]), require_mount=some.booleans(),
)
nodes = some.sampled_from(NODES)


@settings(max_examples=700, deadline=None)
@given(resources, nodes, evidence)
def test_to_proceed_takes_a_primary_with_its_device_mounted(resource: ResourceConfig, node: str, given_: Evidence):
    verdict = judge(resource, node, NODES, given_)
    assert bool(verdict.hint) is (verdict.decision is Decision.REFUSE)
    assert verdict.because
    if verdict.decision is not Decision.PROCEED:
        return
    assert given_.observations
    assert all((seen.resource, seen.role, seen.suspended) == ("raid", Role.PRIMARY, "") for seen in given_.observations)
    there = mounted_at(given_.mounts, resource.source)
    assert there is not None or not (resource.device or resource.require_mount)
    if resource.device:
        assert there is not None
        assert there.source in given_.device_names or there.device == given_.device_number


@settings(max_examples=700, deadline=None)
@given(resources, nodes, evidence, observations)
def test_one_more_observation_never_turns_refuse_into_proceed(
    resource: ResourceConfig, node: str, given_: Evidence, more: Observation
):
    if not given_.observations:
        return
    before = judge(resource, node, NODES, given_).decision
    after = judge(resource, node, NODES, replace(given_, observations=(*given_.observations, more))).decision
    assert after is not Decision.PROCEED or before is Decision.PROCEED


@settings(max_examples=500, deadline=None)
@given(resources, nodes, evidence, some.randoms(use_true_random=False))
def test_the_order_of_the_observations_changes_nothing(resource: ResourceConfig, node: str, given_: Evidence, chance):
    shuffled = list(given_.observations)
    chance.shuffle(shuffled)
    other = replace(given_, observations=tuple(shuffled))
    assert judge(resource, node, NODES, other) == judge(resource, node, NODES, given_)
