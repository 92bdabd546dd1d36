"""Copies from an LVM snapshot below a real DRBD: one instant, nothing holds the volume, and nothing is left over."""

from __future__ import annotations

import json

from tests.cluster.asking import RUN, backs_up
from tests.cluster.failover import backup_under_way
from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.volume_group import volumes
from tests.cluster.waiting import eventually

CONFIG = "/etc/drbdbackup/config.toml"
WAITS = """
[target.nas.hook.meanwhile]
before = ["/bin/sh", "-c", "touch /run/waits; while [ -e /run/waits ]; do sleep 0.2; done"]
"""
# 2.4 MB: at 100 KB a second they are under way on both targets when the volume is given up, on any machine.
FILES = "mkdir /srv/raid/much && cd /srv/raid/much && head -c 2400K /dev/urandom | split -b 4K -a 3 - file- && sync"
GIVEN_UP = "cd / && umount /srv/raid && drbdadm secondary raid"


def run_that_waits(node: Node) -> Started:
    """A run whose snapshot is there, and whose copy to the NAS begins when /run/waits is removed."""
    run = node.starts("drbdbackup run")
    eventually(lambda: node.holds("test -e /run/waits"), within=RUN, what="the snapshot is there", every=1)
    assert run.runs, run.ends(within=1).stderr
    return run


def test_a_copy_is_of_one_instant_and_its_snapshot_is_removed(on_lvm: Lab) -> None:
    www4 = on_lvm.www4
    www4.run(f"cat >>{CONFIG}", given=WAITS)
    run = run_that_waits(www4)
    www4.run("echo late >/srv/raid/first; touch /srv/raid/new; sync; rm /run/waits")
    ended = run.ends(within=RUN)
    assert ended.returncode == 0, ended.stderr
    assert www4.says("cd /backup/drbdbackup/raid/latest/data && cat first && ls") == "early\nfirst"
    assert json.loads(www4.get("/backup/drbdbackup/raid/latest/snapshot.json"))["instant"] == "lvm"
    assert volumes(www4) == ["raid"]
    checks = www4.json("drbdbackup doctor --json", check=False, timeout=240)["checks"]
    assert [one["state"] for one in checks if one["check"] == "snapshot"] == ["ok"], checks


def test_the_volume_can_be_given_up_at_once_while_it_is_copied(on_lvm: Lab) -> None:
    www4, www5 = on_lvm.pair
    www4.run(FILES, timeout=180)
    run = backup_under_way(www4)
    www4.run(GIVEN_UP)
    www5.run("drbdadm primary raid && mount /dev/drbd0 /srv/raid && cat /srv/raid/first")
    ended = run.ends(within=120)
    assert ended.returncode == 7, ended.stderr
    assert volumes(www4) == ["raid"]
    assert www4.run("drbdbackup latest", check=False).returncode == 6


def test_what_a_kill_left_is_removed_and_one_that_runs_over_is_no_backup(on_lvm: Lab) -> None:
    www4 = on_lvm.www4
    www4.run(f"cat >>{CONFIG}; sed -i '/^snapshot = /a snapshot_size = \"4M\"' {CONFIG}", given=WAITS)
    run_that_waits(www4)
    www4.run("pkill -KILL -f '[d]rbdbackup run'; rm /run/waits")
    [left, origin] = volumes(www4)
    assert (left[:11], origin) == ("drbdbackup-", "raid")
    www4.run(GIVEN_UP)
    backs_up(www4)  # it stands down
    assert volumes(www4) == ["raid"]

    www4.run("drbdadm primary raid && mount /dev/drbd0 /srv/raid")
    run = run_that_waits(www4)
    www4.run("dd if=/dev/urandom of=/srv/raid/more bs=1M count=12 conv=fsync && rm /run/waits", timeout=120)
    ended = run.ends(within=RUN)
    assert ended.returncode == 1, ended.stderr
    assert "ran over" in ended.stderr
    assert "snapshot_size in [resource.raid]" in ended.stderr
    assert volumes(www4) == ["raid"]
