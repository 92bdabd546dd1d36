"""A disk that fails or is pulled out while it is copied to: the NAS has its backup, and the disk's last one stays."""

from __future__ import annotations

from tests.cluster.asking import RUN, backs_up, latest, newest
from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.volume_group import UDEV
from tests.cluster.waiting import eventually

CONFIG = "/etc/drbdbackup/config.toml"
FILES = "mkdir /srv/raid/much && cd /srv/raid/much && seq 400 | while read n; do echo $n >file-$n; done && sync"
BEGUN = "ls -d /proc/[0-9]*/root/saving/drbdbackup/raid/.partial-*/data/much"
OVER_IT = "0 $(blockdev --getsz /dev/sdb1)"
WELL, BAD = f'"{OVER_IT} linear /dev/sdb1 0"', f'"{OVER_IT} error"'
LEFT = "mount -o ro {} /mnt && ls -A /mnt/drbdbackup/raid && umount /mnt"


def copies(node: Node) -> tuple[str, set[tuple[str, str]]]:
    """The newest snapshot that the node knows, and what it knows to lie where, as (snapshot, target)."""
    known = latest(node)
    return known["backup"]["snapshot"], {(copy["snapshot"], copy["target"]) for copy in known["copies"]}


def copy_under_way(node: Node) -> Started:
    """A run that is at work on the disk, which only its own processes see."""
    node.run(FILES, timeout=180)
    run = node.starts("drbdbackup run")
    begun = f"{BEGUN} 2>/dev/null | grep -q ."
    eventually(lambda: node.holds(begun) or not run.runs, within=RUN, what="the disk's copy", every=0.5)
    assert run.runs, run.ends(within=1).stderr
    return run


def leaves_the_nas_its_backup(node: Node, run: Started, old: str) -> None:
    """The run tells of the disk, and ends; the new backup is on the NAS, and the old one is still known on the disk."""
    ended = run.ends(within=RUN)
    assert ended.returncode == 3, ended.stderr
    assert "disk: " in ended.stderr
    new, there = copies(node)
    assert new != old
    assert there >= {(new, "nas"), (old, "nas"), (old, "disk")}
    assert (new, "disk") not in there


def goes_on(node: Node, device: str, old: str) -> None:
    """Once the disk is well again its last copy is there, and the next run needs no help."""
    assert old in node.says(LEFT.format(device)).split()
    backs_up(node)
    new, there = copies(node)
    assert there >= {(new, "nas"), (new, "disk")}
    assert ".partial" not in node.says(LEFT.format(device))


def test_a_disk_whose_every_block_is_bad_in_mid_copy(backed_up: Lab) -> None:
    www4, (old, _) = backed_up.www4, newest(backed_up.www4)
    www4.run(UDEV)
    www4.run(f"dmsetup create spare --table {WELL} && sed -i s,/dev/sdb1,/dev/mapper/spare, {CONFIG}")
    run = copy_under_way(www4)
    www4.run(f"dmsetup suspend --noflush --nolockfs spare; dmsetup load spare --table {BAD} && dmsetup resume spare")
    leaves_the_nas_its_backup(www4, run, old)
    www4.run(f"dmsetup suspend --noflush --nolockfs spare; dmsetup load spare --table {WELL} && dmsetup resume spare")
    goes_on(www4, "/dev/mapper/spare", old)


def test_a_disk_that_is_pulled_out_in_mid_copy_and_put_back(backed_up: Lab) -> None:
    www4, (old, _) = backed_up.www4, newest(backed_up.www4)
    run = copy_under_way(www4)
    www4.machine.pull_out("sdb")
    leaves_the_nas_its_backup(www4, run, old)
    assert not www4.holds("test -e /dev/sdb1")
    www4.machine.put_back("sdb")
    eventually(lambda: www4.holds("test -e /dev/sdb1"), within=60, what="the disk is there again")
    goes_on(www4, "/dev/sdb1", old)
