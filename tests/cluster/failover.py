"""How long a failover takes: with nothing else, under a backup, and under a replication on the node that takes over.

    python -m tests.cluster.failover 3          # rounds; prints seconds of each, and the medians

Measured from `heartbeat stop` on the one node until the other one serves the page, on a machine that does nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time

from tests.cluster.asking import RUN
from tests.cluster.beginnings import BACKED_UP, FILLED, begin
from tests.cluster.lab import Lab
from tests.cluster.node import Node, Started
from tests.cluster.pair import TAKEOVER, serves
from tests.cluster.waiting import eventually

CONFIG = "/etc/drbdbackup/config.toml"
NOTHING, BACKUP, REPLICATION = "nothing", "a backup", "a replication"
AGENTS = "$(ls /etc/ha.d/resource.d/drbdbackup /usr/lib/ocf/resource.d/drbdbackup/drbdbackup 2>/dev/null)"


def backup_under_way(node: Node) -> Started:
    """A run whose copy to the NAS has begun and takes two minutes more; the volume is that of FILLED.

    The rate sees to that: however fast the machine is, the copy has to read the volume when the cluster wants it.
    """
    slow_down(node, "100K")
    run = node.starts("drbdbackup run")
    begun = "ls -d /backup/drbdbackup/raid/.partial-*/data/much"
    return begins(run, f"timeout 10 {begun}", "the copy has begun")


def replication_under_way(node: Node) -> Started:
    """A replication onto this node's disk that has begun and takes minutes more, of a backup on the NAS."""
    slow_down(node, "64K")
    run = node.starts("drbdbackup replicate")
    mounted = "grep -qs ' /dev/sdb1 ' /proc/[0-9]*/mountinfo"
    return begins(run, mounted, "its disk is mounted")


def begins(run: Started, sign: str, what: str) -> Started:
    """It is still at work, and that command on its node says that it has come so far."""
    eventually(lambda: not run.runs or run.node.holds(sign), within=RUN, what=what, every=1)
    assert run.runs, run.ends(within=1).stderr
    return run


def slow_down(node: Node, rate: str) -> None:
    node.run(f"sed -i 's/^.limits.$/&\\nrate = \"{rate}\"/' {CONFIG} && grep -q '^rate = ' {CONFIG}")


def at_full_speed(node: Node) -> None:
    node.run(f"sed -i '/^rate = /d' {CONFIG}")


def makes_up_soon(node: Node) -> None:
    """Once it has taken over, its resource agent waits ten seconds, not a minute, until it makes up for a backup."""
    node.run(f"sed -i 's/OCF_RESKEY_delay=60/OCF_RESKEY_delay=10/' {AGENTS} && grep -l OCF_RESKEY_delay=10 {AGENTS}")


def takes_over(giving: Node, taking: Node, seen_from: Node) -> float:
    """Heartbeat is stopped on one node; seconds until the other one serves the page."""
    began = time.monotonic()
    giving.starts("/etc/init.d/heartbeat stop")
    eventually(lambda: serves(taking, seen_from), within=TAKEOVER, what=f"the page from {taking}", every=0.5)
    return time.monotonic() - began


def measured(lab: Lab, what: str) -> float:
    begin(lab, BACKED_UP if what == REPLICATION else FILLED)
    if what == BACKUP:
        backup_under_way(lab.www4)
    if what == REPLICATION:
        replication_under_way(lab.www5)
    return takes_over(lab.www4, lab.www5, lab.nas)


def main() -> None:
    rounds: list[list[float]] = []
    with Lab() as lab:
        for number in range(1, int(sys.argv[1]) + 1):
            rounds.append([measured(lab, what) for what in (NOTHING, BACKUP, REPLICATION)])
            plain, during, fetching = rounds[-1]
            told = f"{plain:.1f} s, {during:.1f} s with {BACKUP}, {fetching:.1f} s with {REPLICATION}"
            print(f"round {number}: {told}", flush=True)
    plain, during, fetching = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"median: {plain:.1f} s; with {BACKUP} {during / plain:.2f}x, with {REPLICATION} {fetching / plain:.2f}x")


if __name__ == "__main__":
    main()
