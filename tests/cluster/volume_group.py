"""The pair's volume on logical volumes, as it is set up where copies come from LVM snapshots (docs/config.md)."""

from __future__ import annotations

from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.states import settles
from tests.cluster.waiting import together

UDEV = "/lib/systemd/systemd-udevd --daemon"  # makes the nodes of device-mapper's devices
PREPARED = f"""set -e
{UDEV}
drbdadm down raid
wipefs --all --quiet /dev/sda1
vgcreate --yes vg0 /dev/sda1
lvcreate --yes --name raid --size 160M vg0
sed -i 's,disk /dev/sda1;,disk /dev/vg0/raid;,' /etc/drbd.d/raid.res
sed -i '/^source = /a snapshot = "lvm"' /etc/drbdbackup/config.toml
drbdadm create-md --force raid
drbdadm up raid"""
BEGUN = """set -e
drbdadm new-current-uuid --clear-bitmap raid/0
drbdadm primary raid
mkfs.ext4 -q /dev/drbd0
mount /dev/drbd0 /srv/raid
echo early >/srv/raid/first
sync"""


def on_lvm(lab: Lab) -> None:
    """From two Secondaries on partitions to a Primary, www4, on a logical volume of each node; in sync, and mounted."""
    together(*((node.run, PREPARED, True, 120) for node in lab.pair))
    settles(lab, "Secondary/Secondary")
    lab.www4.run(BEGUN, timeout=120)


def volumes(node: Node) -> list[str]:
    """The names of the logical volumes that are there."""
    return node.says("lvs --noheadings --options lv_name vg0").split()
