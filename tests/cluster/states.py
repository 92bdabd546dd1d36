"""The states that a DRBD pair can be in, and how a real one gets there: scenarios judge them, the recorder keeps them.

Each begins where `bare` ends: no Heartbeat, both nodes Secondary, connected and UpToDate. The numbers are those of the
recorded files in tests/captures.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.waiting import eventually, together

Arrive = Callable[[Lab], None]
STATES: dict[str, Arrive] = {}
SLOW = "drbdadm disk-options --c-plan-ahead=0 --resync-rate=100K raid"
MOUNT = "mount /dev/drbd0 /srv/raid"
TWO = "drbdadm net-options --protocol=C --allow-two-primaries=yes raid"
SECOND = """resource r1 {
    on www4 { device /dev/drbd1; disk /dev/loop0; address 192.168.12.2:7789; meta-disk internal; }
    on www5 { device /dev/drbd1; disk /dev/loop0; address 192.168.12.3:7789; meta-disk internal; }
}
"""


def bare(lab: Lab) -> None:
    """Two Secondaries that nobody moves."""
    together(*((node.run, "/etc/init.d/cron stop") for node in lab.pair))
    settles(lab, "Secondary/Secondary")


def state(name: str) -> Callable[[Arrive], Arrive]:
    def keep(arrive: Arrive) -> Arrive:
        STATES[name] = arrive
        return arrive

    return keep


def settles(lab: Lab, roles: str, cstate: str = "Connected", resource: str = "raid") -> None:
    """Waits until www4 sees these roles and this connection."""
    asked = f"drbdadm role {resource}; drbdadm cstate {resource}"
    eventually(lambda: lab.www4.says(asked).split() == [roles, cstate], within=150, what=f"{roles} {cstate}")


def on_both(lab: Lab, command: str) -> None:
    together(*((node.run, command) for node in lab.pair))


def primary(node: Node, resource: str = "raid") -> None:
    node.run(f"drbdadm primary {resource}")


@state("01-module-not-loaded")
def module_not_loaded(lab: Lab) -> None:
    on_both(lab, "drbdadm down raid && modprobe -r drbd")


@state("02-module-loaded-resource-down")
def resource_down(lab: Lab) -> None:
    on_both(lab, "drbdadm down raid")


@state("03-connected-both-secondary-both-inconsistent")
def both_inconsistent(lab: Lab) -> None:
    on_both(lab, "drbdadm down raid && drbdadm create-md --force raid && drbdadm up raid")
    settles(lab, "Secondary/Secondary")


@state("04-syncsource-primary-www4-synctarget-www5")
def initial_sync(lab: Lab) -> None:
    both_inconsistent(lab)
    on_both(lab, SLOW)
    lab.www4.run("drbdadm primary --force raid")
    settles(lab, "Primary/Secondary", "SyncSource")


@state("06-syncsource-both-secondary")
def sync_of_secondaries(lab: Lab) -> None:
    initial_sync(lab)
    lab.www4.run("drbdadm secondary raid")
    settles(lab, "Secondary/Secondary", "SyncSource")


@state("07-connected-both-secondary-uptodate")
def both_secondary(lab: Lab) -> None:
    settles(lab, "Secondary/Secondary")


@state("08-connected-primary-www4-secondary-www5")
def primary_on_www4(lab: Lab) -> None:
    primary(lab.www4)
    settles(lab, "Primary/Secondary")


@state("10-primary-www4-mounted")
def mounted_on_www4(lab: Lab) -> None:
    primary_on_www4(lab)
    lab.www4.run(MOUNT)


@state("11-connected-secondary-www4-primary-www5")
def primary_on_www5(lab: Lab) -> None:
    primary(lab.www5)
    settles(lab, "Secondary/Primary")


@state("12-www5-disconnected-standalone")
def standalone(lab: Lab) -> None:
    primary_on_www4(lab)
    lab.www5.run("drbdadm disconnect raid")
    settles(lab, "Primary/Unknown", "WFConnection")


@state("13-www5-down")
def peer_down(lab: Lab) -> None:
    primary_on_www4(lab)
    lab.www5.run("drbdadm down raid")
    settles(lab, "Primary/Unknown", "WFConnection")


@state("15-www4-primary-diskless")
def diskless(lab: Lab) -> None:
    primary_on_www4(lab)
    lab.www4.run("drbdadm detach raid")


@state("17-dual-primary")
def dual_primary(lab: Lab) -> None:
    on_both(lab, TWO)
    primary(lab.www4)
    primary(lab.www5)
    settles(lab, "Primary/Primary")


@state("20-split-brain-after-link-is-back")
def split_brain(lab: Lab) -> None:
    primary(lab.www4)
    on_both(lab, "drbdadm disconnect raid")
    primary(lab.www5)
    on_both(lab, f"{MOUNT} && hostname >/srv/raid/split && umount /srv/raid")
    on_both(lab, "drbdadm connect raid")
    eventually(lambda: any(stands_alone(node) for node in lab.pair), within=150)
    on_both(lab, "drbdadm disconnect raid || true")  # the node that let go second may only see a lost network
    eventually(lambda: all(stands_alone(node) for node in lab.pair), within=150)


def stands_alone(node: Node) -> bool:
    return "StandAlone" in node.says("drbdadm cstate raid")


@state("21-split-brain-resolved")
def split_brain_resolved(lab: Lab) -> None:
    split_brain(lab)
    lab.www5.run("drbdadm secondary raid && drbdadm connect --discard-my-data raid")
    lab.www4.run("drbdadm connect raid")
    settles(lab, "Primary/Secondary")


@state("22-second-resource-r1-configured-but-down")
def second_resource_down(lab: Lab) -> None:
    on_both(lab, "modprobe loop && truncate -s 64M /root/r1.img && losetup /dev/loop0 /root/r1.img")
    for node in lab.pair:
        node.put("/etc/drbd.d/r1.res", SECOND)
    primary_on_www4(lab)


@state("23-two-resources-raid-primary-r1-secondary-on-www4")
def two_resources(lab: Lab) -> None:
    second_resource_down(lab)
    on_both(lab, "drbdadm create-md --force r1 && drbdadm up r1")
    settles(lab, "Secondary/Secondary", resource="r1")
    lab.www4.run("drbdadm new-current-uuid --clear-bitmap r1/0")


@state("25-two-resources-both-primary-on-www4")
def two_primaries_here(lab: Lab) -> None:
    two_resources(lab)
    primary(lab.www4, "r1")


@state("26-config-syntax-error")
def syntax_error(lab: Lab) -> None:
    primary_on_www4(lab)
    for node in lab.pair:
        node.put("/etc/drbd.d/broken.res", "resource broken {\n    nonsense;\n}\n")


@state("27-no-resource-configured-but-raid-up-in-kernel")
def not_configured_any_more(lab: Lab) -> None:
    primary_on_www4(lab)
    on_both(lab, "mv /etc/drbd.d/raid.res /root/")


@state("29-drbdadm-not-installed")
def no_drbdadm(lab: Lab) -> None:
    primary_on_www4(lab)
    on_both(lab, "mv /usr/sbin/drbdadm /root/")


@state("30-www5-plug-pulled")
def peer_gone(lab: Lab) -> None:
    primary_on_www4(lab)
    lab.www5.pull_the_plug()
    settles(lab, "Primary/Unknown", "WFConnection")


@state("31-io-suspended-by-the-admin")
def io_suspended(lab: Lab) -> None:
    mounted_on_www4(lab)
    lab.www4.run("drbdadm suspend-io raid")


@state("32-primary-www4-synctarget")
def primary_is_sync_target(lab: Lab) -> None:
    diskless(lab)
    lab.www4.run("sed -i 's/resync-rate .*;/resync-rate 100K;/' /etc/drbd.d/raid.res")  # read when it is attached
    lab.www4.run(f"{MOUNT} && dd if=/dev/zero of=/srv/raid/filler bs=1M count=40 conv=fsync && umount /srv/raid")
    lab.www4.run("drbdadm attach raid")
    settles(lab, "Primary/Secondary", "SyncTarget")
