"""What `init` proposes for what was seen, and what it reads of DRBD's configuration and of lsblk."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from msgspec.structs import replace

from drbdbackup.config.load import checked
from drbdbackup.config.merge import merged
from drbdbackup.errors import ConfigError
from drbdbackup.proposal import SeenDatabase, SeenNode, SeenVolume, proposed
from drbdbackup.tools import drbd_config
from drbdbackup.tools.drbd_config import ConfiguredVolume, DrbdHost, DrbdResource
from drbdbackup.tools.lsblk import BlockDevice

EIGHT = """\
# /etc/drbd.conf
resource raid {
    on www4 {
        node-id 0;
        volume 0 {
            device       /dev/drbd0 minor 0;
            disk         "/dev/sda1";
            meta-disk    internal;
        }
        address          ipv4 192.168.12.2:7788;
    }
    on www5.example.org {
        device           minor 0;
        disk             /dev/sda3;
        address          ipv4 192.168.12.3:7788;
    }
    net { shared-secret "a;}b{"; }
}
resource "r1" { on www9 { } }
"""
NINE = """\
resource raid {
    on www4 { node-id 0; volume 0 { device minor 10; disk /dev/vg/a; } volume 1 { device minor 11; disk none; } }
    on www5 { node-id 1; volume 0 { device minor 10; disk /dev/vg/b; } }
    connection { host www4 address ipv4 10.0.0.1:7789; host www5 address ipv6 [fd00::2]:7789; }
    connection { host www4 address ipv4 10.9.9.1:7790; host www5 address ipv4 10.9.9.2:7790; }
}
"""
RAID = DrbdResource("raid", (
    DrbdHost("www4", "192.168.12.2", (ConfiguredVolume(0, "/dev/drbd0", "/dev/sda1"),)),
    DrbdHost("www5.example.org", "192.168.12.3", (ConfiguredVolume(0, "/dev/drbd0", "/dev/sda3"),)),
))  # fmt: skip


def device(name: str, filesystem: str | None, size: int, at: str | None = None, **more: Any) -> BlockDevice:
    """`size` in GiB."""
    told: dict[str, Any] = {"type": "part", "fstype": filesystem, "uuid": name[-2:], "mountpoints": (at,), **more}
    return BlockDevice(path=f"/dev/{name}", kname=name, size=size << 30, **told)


DISKS = (
    device("sda", None, 9), device("sda1", "ext4", 9, pkname="sda"), device("sdb1", "ext4", 40),
    device("sdc1", "xfs", 20), device("sdd", None, 20), device("sde1", "ext4", 90, "/"),
    device("sdf1", "swap", 90), device("sr0", "iso9660", 1, type="rom", ro=True),
    device("loop0", "ext4", 99, type="loop"),
)  # fmt: skip
FACTS = SeenNode(
    node="www4", resources=(RAID,),
    shares=(("/media/films", "nas:/films"), ("/backup", "nas:/b"), ("/srv/raid/x", "n:/x")),
    volumes=(SeenVolume("raid", ConfiguredVolume(0, "/dev/drbd0", "/dev/sda1"), "/srv/raid", "it is mounted there"),),
    devices=DISKS, managers=("Heartbeat",), services=("mysql", "apache2"),
    databases=(SeenDatabase("mariadb", "/var/lib/mysql", "/srv/raid/mysql"),),
)  # fmt: skip


def tables(facts: SeenNode) -> dict[str, Any]:
    return tomllib.loads(proposed(facts).toml)


def reasons(facts: SeenNode, about: str) -> str:
    return "\n".join(one.because for one in proposed(facts).reasons if one.about == about)


def test_the_configuration_of_drbd_is_read() -> None:
    assert drbd_config.parse(EIGHT) == (RAID, DrbdResource("r1", (DrbdHost("www9", "", ()),)))
    [nine] = drbd_config.parse(NINE)
    assert [(host.name, host.address) for host in nine.hosts] == [("www4", "10.0.0.1"), ("www5", "fd00::2")]
    first, second = ConfiguredVolume(0, "/dev/drbd10", "/dev/vg/a"), ConfiguredVolume(1, "/dev/drbd11", "none")
    assert nine.hosts[0].volumes == (first, second)


@pytest.mark.parametrize("text", ["", "resource", "resource {", "}}}}", "resource r {", 'resource "r', "on x { a;"])
def test_what_is_no_configuration_does_no_harm(text: str) -> None:
    assert all(not one.hosts for one in drbd_config.parse(text))


def test_all_that_was_seen_is_in_it_and_it_is_right() -> None:
    found = tables(FACTS)
    checked("/x", merged([("/x", {**found, "node": "www4"})]))
    assert found["nodes"] == ["www4", "www5"]
    raid = found["resource"]["raid"]
    assert (raid["device"], raid["source"], raid["services"]) == ("/dev/drbd0", "/srv/raid", ["mysql", "apache2"])
    assert raid["database"] == {"mariadb": {"kind": "mariadb"}}
    assert "exclude" not in raid, "that is the admin's to decide"
    assert found["target"]["nas"] == {"kind": "nas", "path": "/backup"}
    assert found["target"]["disk"] == {"kind": "disk", "device": "/dev/sdb1", "mountpoint": "/mnt/backup-disk"}
    assert found["peer"]["www5"] == {"ssh": "root@192.168.12.3", "options": ["-i", "/root/.ssh/drbdbackup"]}


def test_what_was_not_taken_is_named() -> None:
    assert "--nas /media/films" in reasons(FACTS, "target.nas")
    told = reasons(FACTS, "target.disk")
    assert [name for name in ("/dev/sdc1", "/dev/sdd") if name not in told] == []
    assert [name for name in ("/dev/sda", "/dev/sde1", "/dev/sdf1", "/dev/sr0", "/dev/loop0") if name in told] == []
    assert "drbdbackup install --agent" in reasons(FACTS, "agent")


@pytest.mark.parametrize(("entry", "chosen"), [
    ("/dev/sdb1", "/dev/sdc1"), ("UUID=b1", "/dev/sdc1"), ("UUID=x", "/dev/sdb1"),
])  # fmt: skip
def test_a_disk_that_fstab_names_is_not_spare(entry: str, chosen: str) -> None:
    assert tables(replace(FACTS, fstab=(entry,)))["target"]["disk"]["device"] == chosen


def test_what_the_admin_names_is_taken() -> None:
    found = tables(replace(FACTS, nas="/media/films", disk="/dev/sdc1", folders=("/saving",)))["target"]
    assert (found["nas"]["path"], found["disk"]["device"], found["disk"]["mountpoint"]) == (
        "/media/films", "/dev/sdc1", "/saving",
    )  # fmt: skip


def test_without_a_place_for_copies_it_is_not_right() -> None:
    found = replace(FACTS, shares=(), devices=())
    assert "target" not in tables(found)
    with pytest.raises(ConfigError, match="target is missing"):
        checked("/x", merged([("/x", tables(found))]))


def test_a_second_volume_and_one_that_is_nowhere_are_named() -> None:
    second = SeenVolume("raid", ConfiguredVolume(1, "/dev/drbd1", "/dev/sdx"), "/srv/more", "it is mounted there")
    other = SeenVolume("r1", ConfiguredVolume(0, "/dev/drbd5", "/dev/sdy"), "", "")
    found = replace(FACTS, volumes=(*FACTS.volumes, second, other))
    assert list(tables(found)["resource"]) == ["raid"]
    assert "/dev/drbd1" in reasons(found, "resource.raid")
    assert "# ignore_volumes = [1]" in proposed(found).toml
    assert "/dev/drbd5" in reasons(found, "resource.r1")


def test_a_logical_volume_and_postgresql_are_hints_only() -> None:
    lvm = replace(DISKS[0], path="/dev/sda1", type="lvm")
    seen = (SeenDatabase("postgresql", "/var/lib/postgresql", "/srv/raid/pg"),)
    found = replace(FACTS, devices=(lvm,), databases=seen)
    assert '# snapshot = "lvm"' in proposed(found).toml
    assert "database" not in tables(found)["resource"]["raid"]
    assert "pg_dumpall" in reasons(found, "resource.raid.hook")
