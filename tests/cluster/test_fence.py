"""A failover while a backup is under way: the backup is out of the way before anybody has to kill it."""

from __future__ import annotations

import time

from tests.cluster.asking import RUN, newest, runs
from tests.cluster.conftest import CONFIGURED
from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.pair import WORDS, page
from tests.cluster.waiting import eventually, together

TAKEOVER = 240  # seconds; it takes about 60
MUCH = "mkdir /srv/raid/much && cd /srv/raid/much && seq 3000 | while read n; do echo $n >file-$n; done && sync"
WITHOUT_AGENT = "sed -i 's/ drbdbackup / /' /etc/ha.d/haresources"


def backup_under_way(node: Node) -> Started:
    """A run whose copy to the NAS has begun and takes minutes more."""
    node.run(MUCH, timeout=120)
    run = node.starts("drbdbackup run")
    begun = "ls -d /backup/drbdbackup/raid/.partial-*/data/much"
    eventually(lambda: node.holds(f"timeout 10 {begun}"), within=RUN, what="the copy has begun")
    return run


def takes_over(giving: Node, taking: Node) -> float:
    """Heartbeat is stopped on one node; seconds until the other one serves the page."""
    began = time.monotonic()
    giving.starts("/etc/init.d/heartbeat stop")
    eventually(lambda: not giving.holds("grep -q ' /srv/raid ' /proc/mounts"), within=TAKEOVER, what="the unmount")
    eventually(lambda: page(taking) == WORDS, within=TAKEOVER, what=f"the page from {taking}")
    return time.monotonic() - began


def test_a_failover_takes_no_longer_and_the_new_primary_makes_up_for_the_backup(lab: Lab) -> None:
    lab.www4.run(MUCH, timeout=120)
    without = takes_over(lab.www4, lab.www5)
    lab.revert(CONFIGURED)
    run = backup_under_way(lab.www4)
    during = takes_over(lab.www4, lab.www5)
    print(f"failover: {without:.1f} s without a backup, {during:.1f} s with one under way: {during / without:.2f}x")
    ended = run.ends(within=60)
    assert ended.returncode == 7, ended.stderr
    assert during < 1.3 * without  # the howto's scripts cost 14 s more; a busy machine a little
    assert runs(lab.www4)[0] == "www4 interrupted"
    eventually(lambda: "www5 complete" in runs(lab.www5), within=RUN, what="www5 makes up for it, by itself")
    lab.www4.run("drbdbackup sync", timeout=RUN)
    assert newest(lab.www4) == newest(lab.www5)
    assert newest(lab.www4)[1] == "www5"


def test_without_the_agent_the_clusters_clean_up_is_an_interruption_too(lab: Lab) -> None:
    together(*((node.run, WITHOUT_AGENT) for node in lab.pair))
    run = backup_under_way(lab.www4)
    takes_over(lab.www4, lab.www5)
    ended = run.ends(within=60)
    assert ended.returncode == 7, ended.stderr
    assert runs(lab.www4)[0] == "www4 interrupted"


def test_a_nas_that_hangs_under_the_backup_does_not_hold_up_a_failover(lab: Lab) -> None:
    run = backup_under_way(lab.www4)
    lab.nas.eth0.cut()
    takes_over(lab.www4, lab.www5)
    ended = run.ends(within=120)
    assert ended.returncode == 7, ended.stderr
